"""`python -m sempa_lightning.synthesize`: let a language model write training rows for your sentences."""

from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from sempa_lightning.artifacts import SynthesisDir
from sempa_lightning.check import Count
from sempa_lightning.entry import (
    checked,
    conf_dir,
    config_text,
    instantiate,
    refuse_another_config,
    resumed_config,
    run_main,
    settle_dtype,
    subject_fields,
    telling_errors,
    trusted,
)
from sempa_lightning.errors import UserError
from sempa_lightning.files import write_json, write_text
from sempa_lightning.stopping import stopping_on_signals

# What another call in the same folder may have otherwise.
_FREE = ("device", "paths")
# What some models bring for training, and what is not kept.
_UNREAD = ("objective", "optimizer", "data", "trust")


def synthesize(cfg: Any) -> None:  # noqa: ANN401 (as below)
    """Write what is not written yet, and make training rows of it.

    Raises:
        UserError: If something that is asked for is not there, or no output is kept.
    """
    from sempa_lightning.models.causal_lm import check_device
    from sempa_lightning.synthesis.assembly import assemble
    from sempa_lightning.synthesis.parts import Parts
    from sempa_lightning.synthesis.sentences import read_sentences, sentence_table
    from sempa_lightning.synthesis.table import print_account
    from sempa_lightning.terminal import Terminal
    from sempa_lightning.training.setup import quieten

    quieten()
    folder, console = SynthesisDir(cfg.paths.run_dir), Terminal()
    check_device(cfg.device)
    sentences = read_sentences(sentence_table(cfg.sentences, cfg.split, cfg.revision), cfg.column, cfg.limit)
    _refuse_another(folder, cfg, sentences.fingerprint)
    filters, arrange = instantiate(cfg.filters), instantiate(cfg.rows)
    parts = Parts(folder, sentences.texts, cfg.part_size)
    parts.remove_damaged()
    if parts.missing:
        _write(cfg, folder, parts, sentences.as_dict(), console)
    account = assemble(parts.drafts(), filters, arrange, folder)
    write_json(folder.manifest, folder.read_manifest() | {"counts": account.as_dict()})
    folder.remove_leftovers()
    print_account(len(sentences.texts), account, console)
    if not account.rows:
        raise UserError(
            f"nothing to train on: {account}. {folder.rejected} holds them all; try an instruct model, other prompts"
            " (transformation=…) or other filters (filters.…), in a new folder"
        )
    objective = "" if account.examples[0].rejected else " objective=contrastive"
    console.print(f"rows and counts are in {folder.path}; to train on them:", soft_wrap=True)
    command = f"python -m sempa_lightning.train data=rows data.path={folder.rows}{objective}"
    console.print(command, soft_wrap=True, highlight=False)


def _write(cfg: Any, folder: SynthesisDir, parts: Any, sentences: dict[str, Any], console: Any) -> None:  # noqa: ANN401 (as below; types that are slow to import)
    """Load the model and let it write the parts that are missing."""
    from sempa_lightning.evaluation.runner import bars
    from sempa_lightning.models.causal_lm import placed
    from sempa_lightning.models.embedder import Embedder
    from sempa_lightning.synthesis.plan import Plan
    from sempa_lightning.synthesis.writer import Writer, as_asked
    from sempa_lightning.training.manifest import manifest

    model, tokenizer = instantiate(cfg.model)
    policy = placed(instantiate(cfg.adapter).attach(model), cfg.device)
    encoder = instantiate(cfg.encoder) or Embedder(policy, tokenizer, instantiate(cfg.readout))
    prompts = as_asked(instantiate(cfg.transformation), tokenizer, cfg.chat)
    plan = Plan(prompts, cfg.prompts_per_sentence, cfg.outputs_per_prompt, cfg.seed)
    writer = Writer(policy, tokenizer, encoder, plan, instantiate(cfg.sampling), cfg.batch_size)
    if not folder.begun:
        about = {"sentences": sentences, "prompts": {name: prompt.text for name, prompt in prompts.items()}}
        write_json(folder.manifest, manifest(cfg.seed, "synthesize") | about)
        write_text(folder.config, config_text(cfg))
    console.print(f"synthesis folder: {folder.path}", soft_wrap=True)
    missing = parts.missing
    total, rest = len(parts.sentences), sum(len(parts[number]) for number in missing)
    with bars(console) as shown:
        bar = shown.add_task("outputs", total=plan.size * total, completed=plan.size * (total - rest))
        for number in missing:
            parts.write(number, writer(parts[number], lambda new: shown.advance(bar, new)))


def fields() -> dict[str, Any]:
    """Top-level keys of the config, each with the type of its value."""
    from sempa_lightning.models.adapters import Adapter
    from sempa_lightning.models.generation import Sampling
    from sempa_lightning.prompts.template import PromptTemplate

    own = {key: expected for key, expected in subject_fields().items() if key != "scoring"}
    return own | {
        "adapter": Adapter,
        "encoder": Any,
        "transformation": dict[str, PromptTemplate],
        "rows": Callable,
        "sentences": str | None,
        "column": str,
        "split": str,
        "revision": str | None,
        "limit": Count | None,
        "chat": bool | None,
        "prompts_per_sentence": Count | None,
        "outputs_per_prompt": Count,
        "sampling": Sampling,
        "batch_size": Count,
        "part_size": Count,
        "filters": dict[str, Callable[..., Any]],
        "device": str | None,
        "resume": str | None,
    }


def _refuse_another(folder: SynthesisDir, cfg: Any, fingerprint: str) -> None:  # noqa: ANN401 (as below)
    """Let a folder hold one synthesis.

    Raises:
        UserError: If it was begun with another config or with other sentences.
    """
    if not folder.begun:
        return
    refuse_another_config(folder, config_text(cfg), _FREE)
    if folder.read_manifest().get("sentences", {}).get("fingerprint") != fingerprint:
        raise UserError(
            f"{cfg.sentences} holds other sentences than when {folder.path} was begun: name a new folder with"
            " hydra.run.dir=…"
        )


def composed(cfg: Any) -> Any:  # noqa: ANN401 (as below)
    """The resolved config of a synthesis; what a model brings for training only is dropped.

    Raises:
        UserError: If no model is named.
    """
    if OmegaConf.is_missing(cfg.model, "path"):
        raise UserError("which model writes? model=<option> or model.path=<folder or Hub name>")
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in _UNREAD])
    OmegaConf.resolve(own)
    return own


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="synthesize")
def main(cfg: Any) -> None:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Hydra's door."""
    with telling_errors():
        if resumed := cfg.resume is not None:
            cfg = resumed_config(cfg, list(HydraConfig.get().overrides.task), ("device",), trusted(cfg.trust))
        else:
            cfg = composed(cfg)
        cfg = checked(cfg, fields(), saved=resumed)
        if not resumed:
            settle_dtype(cfg, cfg.device)
        folder = SynthesisDir(cfg.paths.run_dir)
        with stopping_on_signals(f"resume={folder.path}", lambda: folder.begun):
            synthesize(cfg)


if __name__ == "__main__":
    run_main(main)
