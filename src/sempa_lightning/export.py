"""`python -m sempa_lightning.export run=<folder>`: take the trained model out of a run."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import hydra
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not marked so
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from sempa_lightning.artifacts import RunDir
from sempa_lightning.entry import checked, conf_dir, run_main, telling_errors, trusted
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.exported import SENTENCES, check_exported, logits, vectors
from sempa_lightning.evaluation.model_card import Format, ModelCard
from sempa_lightning.files import read_object, replacing_folder, write_json, write_text
from sempa_lightning.models.adapters import merged
from sempa_lightning.models.causal_lm import max_positions
from sempa_lightning.models.sentence_transformer import pooling_mode, save_sentence_transformer, single, with_readout
from sempa_lightning.notebook import SentenceModel, load_run
from sempa_lightning.terminal import Terminal

# Top-level keys of the config, each with the type of its value.
_FIELDS = {
    "run": str | None,
    "out": str | None,
    "formats": list[str] | None,
    "push": str | None,
    "trust": list[str],
    "model": dict[str, bool],
}


def export(
    run: RunDir,
    out: Path,
    formats: Sequence[str] | None,
    push: str | None,
    trust: Sequence[str] = (),
    *,
    trust_remote_code: bool = False,
) -> dict[str, str]:
    """Write the trained model in each format, all of them or nothing, and upload it if asked.

    Args:
        run: A run that has saved its weights.
        out: The folder to make; it gets one folder for each format.
        formats: Which ones (see `Format`), or null for all that the run can give.
        push: Hub name that the names of the uploaded repositories begin with, or null.
        trust: Modules that the run's config may name (see `check_saved`).
        trust_remote_code: Run the code that comes with the model.

    Returns:
        Where each format is: its folder, or its name on the Hub.

    Raises:
        UserError: If a format is unknown or the run cannot give it, before anything is written; if writing fails,
            with nothing left of it; if the upload fails, after the export has ended.
    """
    chosen = _chosen(run, formats)
    repositories = _repositories(push, chosen)
    config = run.read_groups(("model", "readout", "prompt"))
    model = None if chosen == ["adapter"] else _loaded(run, chosen, trust, trust_remote_code=trust_remote_code)
    names = repositories or {name: name for name in chosen}
    card = ModelCard(config, run.read_manifest(), run.read_summary(), names)
    try:
        with replacing_folder(out) as folder:
            if model is not None:
                _save(model, chosen, folder, trust_remote_code=trust_remote_code)
            if "adapter" in chosen:
                _copy_adapter(run, config, folder / "adapter")
            for name in chosen:
                write_text(folder / name / "README.md", card.text(name))
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {out}: {error}; make room or set out=<another folder>") from error
    for name, repository in repositories.items():
        _upload(out / name, repository)
    return {name: repositories.get(name, str(out / name)) for name in chosen}


def _chosen(run: RunDir, formats: Sequence[str] | None) -> list[Format]:
    """The formats asked for, or all that are possible, in the order in which they are written."""
    known: tuple[Format, ...] = get_args(Format)
    possible = [name for name in known if name != "adapter" or run.adapter.is_dir()]
    if unknown := set(formats or ()) - set(known):
        raise UserError(f"formats={sorted(unknown)} is unknown: choose among {', '.join(known)}")
    if impossible := set(formats or ()) - set(possible):
        raise UserError(
            f"{run.path} has no adapter to export as {impossible.pop()}: set formats=[{','.join(possible)}]"
        )
    return [name for name in possible if name in formats] if formats else possible


def _repositories(push: str | None, chosen: Sequence[Format]) -> dict[Format, str]:
    """The Hub name of each format."""
    repositories = {} if push is None else {name: f"{push}-{name}" for name in chosen}
    try:
        for repository in repositories.values():
            validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"push={push} is no name for the Hub: {error}") from error
    return repositories


def _loaded(run: RunDir, chosen: Sequence[Format], trust: Sequence[str], *, trust_remote_code: bool) -> SentenceModel:
    """Load what the run trained; refuse what cannot be written.

    A base model in 4 bits is loaded in full: merged weights could not be rounded to 4 bits without loss.
    """
    in_full = {"load_in_4bit": False} if run.read_config()["model"].get("load_in_4bit") else {}
    model = load_run(run, in_full | ({"trust_remote_code": True} if trust_remote_code else {}), trust)
    if "sentence-transformers" in chosen:
        try:
            readout = single(model.readout)
            pooling_mode(readout)
            with_readout(model.tokenizer, readout, max_positions(model.policy))
        except UserError as error:
            rest = [name for name in _chosen(run, None) if name != "sentence-transformers"]
            raise UserError(f"{error}; formats=[{','.join(rest)}] exports the rest") from error
    return model


def _copy_adapter(run: RunDir, config: Mapping[str, Any], folder: Path) -> None:
    """Copy the adapter, its base model named as in the run's config instead of by a path of this machine."""
    shutil.copytree(run.adapter, folder)
    if base := config["model"].get("path"):
        settings = read_object(folder / "adapter_config.json")
        write_json(folder / "adapter_config.json", {**settings, "base_model_name_or_path": base})


def _save(model: SentenceModel, chosen: Sequence[Format], folder: Path, *, trust_remote_code: bool) -> None:
    """Merge the adapter, write the whole models among the formats, and compare their outputs with the run's.

    Raises:
        UserError: If a written model does not compute what the run's model computes.
    """
    tokenizer, readout, policy = model.tokenizer, model.readout, model.policy
    written, encoder = folder / "merged", folder / "sentence-transformers"
    expected = logits(policy, tokenizer) if "merged" in chosen else None
    expected_vectors = model.encode(SENTENCES) if "sentence-transformers" in chosen else None
    whole: Any = merged(policy) if isinstance(policy, PeftModel) else policy
    if expected is not None:
        whole.save_pretrained(written)
        tokenizer.save_pretrained(written)
        options = {"dtype": whole.dtype, "trust_remote_code": trust_remote_code}
        found = logits(AutoModelForCausalLM.from_pretrained(written, **options), tokenizer)
        check_exported(written, expected, found, whole.dtype)
    if expected_vectors is not None:
        save_sentence_transformer(whole, tokenizer, readout, encoder)
        options = {"dtype": whole.dtype, "trust_remote_code": trust_remote_code}
        check_exported(encoder, expected_vectors, vectors(encoder, single(readout), options), whole.dtype)


def _upload(folder: Path, repository: str) -> None:
    """Upload a folder as a repository, which is private if it is new."""
    try:
        api = HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # network, token, quota, server: many types, and the export itself is done
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"exported to {folder.parent}, but not uploaded to {repository}: {reason}; check the network and"
            f" `hf auth login`, then `hf upload {repository} {folder}`"
        ) from error


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="export")
def main(cfg: Any) -> None:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Hydra's door."""
    with telling_errors():
        cfg = checked(cfg, _FIELDS)
        if cfg.run is None:
            raise UserError("which run? python -m sempa_lightning.export run=<its folder>")
        run = RunDir.existing(cfg.run)
        if cfg.out is not None and Path(cfg.out).exists():
            raise UserError(f"out={cfg.out} exists already: remove it or name a new folder")
        formats = None if cfg.formats is None else list(cfg.formats)
        out, remote = Path(cfg.out or run.export), bool(cfg.model.trust_remote_code)
        for name, place in export(run, out, formats, cfg.push, trusted(cfg.trust), trust_remote_code=remote).items():
            Terminal().print(f"{name}: {place}", soft_wrap=True)


if __name__ == "__main__":
    run_main(main)
