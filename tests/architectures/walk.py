"""What this package does with a model of any architecture: train, evaluate, embed, export, each checked by value.

An architecture is refused where the package raises its own one-line error; any other exception is a fault of the
package and comes through.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from lightning import Trainer
from peft import PeftModel
from torch import nn

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.sts import Sts
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.losses.info_nce import InfoNce
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.models.adapters import FullFineTuning, Lora, save_policy
from sempa_lightning.models.causal_lm import decoder, load_causal_lm
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.forward import check_causal
from sempa_lightning.models.prompt_tokens import PromptTokenizer
from sempa_lightning.models.reading import _REUSED
from sempa_lightning.models.readout import Readout
from sempa_lightning.notebook import load_run
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.sentence import end_with_full_stop
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.logps import check_layout, token_logps
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded, PaddedRight
from sempa_lightning.scoring.reference import AdapterDisabled, Frozen
from sempa_lightning.training.module import TrainingModule
from sempa_lightning.training.objectives.contrastive import Contrastive
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.types import StepBatch, TokenizedRow

LAYOUTS = {"packed": Packed(384), "padded": Padded(), "padded_right": PaddedRight()}
READOUT = Readout(
    PromptTemplate('This sentence : "{sentence}" means in one word:"'), end_with_full_stop, -1, last_token
)
PROMPT = PromptTemplate('Say again: "{sentence}"', separator="\n")
TEXTS = [
    ["A dog runs.", "A dog is running.", "Nobody runs."],
    ["It rains a lot in the evening.", "Rain is falling.", "The sun shines."],
]
PAIRS = [("A dog runs", "A dog is running", 5.0), ("It rains", "Sun", 1.0), ("No", "It never rains in the desert", 0.0)]


class Outcome(NamedTuple):
    """What came of an architecture.

    Attributes:
        layout: The first layout that fits; None if none does.
        prefix: Whether the common start of prompts is read once.
        refused: The error by step, of steps that are refused.
    """

    layout: str | None
    prefix: bool
    refused: dict[str, str]


class Pairs(NamedTuple):
    """A benchmark of three pairs."""

    missing: None = None

    def __iter__(self) -> Iterator[Any]:
        from sempa_lightning.data.scored_pairs import ScoredPair

        return (ScoredPair(*pair) for pair in PAIRS)


def walk(model: nn.Module, tokenizer: Any, folder: Path) -> Outcome:
    """Save a model, then load, embed, evaluate, train and export it.

    Raises:
        AssertionError: If a number differs from what the model itself computes for a sequence alone.
    """
    refused: dict[str, str] = {}
    base = folder / "base"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)

    def attempt(step: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except UserError as error:
            refused[step] = str(error)
            return None

    loaded = attempt("load", lambda: load_causal_lm(str(base)))
    if loaded is None or attempt("embed", lambda: check_embeddings(*loaded)) is None:
        return Outcome(None, False, refused)
    prefix = bool(_REUSED.get(decoder(loaded.model)))
    policy = attempt("adapter", lambda: adapted(loaded.model))
    if policy is None:
        loaded = load_causal_lm(str(base))
        policy = FullFineTuning().attach(loaded.model)
    reference = AdapterDisabled(policy) if isinstance(policy, PeftModel) else Frozen(policy)
    rows = tokenized_rows(loaded.tokenizer)
    subject = Subject(policy, loaded.tokenizer, READOUT, PROMPT, reference, LAYOUTS["packed"])
    attempt("evaluate", lambda: Sts(Pairs()).run(subject, iter))
    contrastive = Contrastive(InfoNce(0.1), READOUT, negatives=True, kl_weight=0.0)
    attempt("train contrastive", lambda: train(policy, reference, contrastive, pad_rows(rows), folder))
    layout = next((name for name in LAYOUTS if attempt(name, partial(check_scores, policy, name, rows))), None)
    if layout is None:
        refused["train preference"] = refused["padded_right"]
    else:
        preference = Preference(PlackettLuce(beta=0.1), nll_weight=0.0, kl_weight=0.1)
        batch = LAYOUTS[layout](rows, loaded.tokenizer.pad_token_id)
        attempt("train preference", lambda: train(policy, reference, preference, batch, folder))
    attempt("export", lambda: check_export(policy, loaded.tokenizer, base, folder))
    return Outcome(layout, prefix, refused)


def adapted(model: nn.Module) -> nn.Module:
    """LoRA on all linear layers that text passes."""
    policy = Lora(4, 8, 0.0, "all-linear", _unused(model)).attach(model)
    check_causal(policy)
    return policy


def _unused(model: nn.Module) -> list[str] | None:
    """Linear layers that text does not pass: cross-attention, encoders of images and sound."""
    used: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: used.add(module)) for module in model.modules()]
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module not in used]


def pad_rows(rows: list[TokenizedRow]) -> Any:
    return LAYOUTS["padded"](rows, 0)


def tokenized_rows(tokenizer: Any) -> list[TokenizedRow]:
    """The texts as rows, with their prompts of the readout."""
    read_out = PromptTokenizer(tokenizer, READOUT.template, READOUT.preprocess, 256)
    rows = []
    for place, (anchor, *candidates) in enumerate(TEXTS):
        prompt = tokenizer.encode(PROMPT.prompt(tokenizer, anchor))
        completions = [
            [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in candidates
        ]
        sentences = read_out([anchor, *candidates])
        ids, masks = [sentence.ids for sentence in sentences], [sentence.text for sentence in sentences]
        rows.append(TokenizedRow(str(place), prompt, completions, 1, ids, masks))
    return rows


@torch.no_grad()
def check_embeddings(model: Any, tokenizer: Any) -> bool:
    """Embeddings are the last states of prompts alone, and do not depend on what is encoded along with them."""
    sentences = [text for row in TEXTS for text in row]
    vectors = Embedder(model, tokenizer, READOUT, batch_size=4).encode(sentences)
    tokenize = PromptTokenizer(tokenizer, READOUT.template, READOUT.preprocess, 256)
    model.eval()
    for vector, prompt in zip(vectors, tokenize(sentences), strict=True):
        expected = (
            decoder(model)(input_ids=torch.tensor([prompt.ids]), use_cache=False).last_hidden_state[0, -1].float()
        )
        close(vector, expected, "embedding")
    return True


@torch.no_grad()
def check_scores(policy: Any, name: str, rows: list[TokenizedRow]) -> bool:
    """Log-probabilities of the layout are those of each sequence alone."""
    batch = LAYOUTS[name](rows, 0)
    check_layout(policy, batch)
    logps = token_logps(policy, batch)
    for row, scores in zip(rows, logps, strict=True):
        for completion, found in zip(row.completion_ids, scores, strict=True):
            ids = torch.tensor([row.prompt_ids + completion])
            log_softmax = (
                policy(input_ids=ids, use_cache=False).logits[0, len(row.prompt_ids) - 1 : -1].float().log_softmax(-1)
            )
            expected = log_softmax.gather(-1, ids[0, len(row.prompt_ids) :, None])[:, 0]
            close(found[: len(completion)], expected, f"log-probability ({name})")
    return True


def train(policy: Any, reference: Any, objective: Any, batch: Any, folder: Path) -> bool:
    """One optimiser step through Lightning: the loss is finite and the weights move."""
    before = [parameter.detach().clone() for parameter in policy.parameters() if parameter.requires_grad]
    module = TrainingModule(
        policy,
        reference,
        objective,
        lambda groups: torch.optim.SGD(groups, lr=0.1),
        lambda optimizer, **_: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        1.0,
        LAYOUTS["padded"],
    )
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
    )
    step = StepBatch([batch], len(batch.rows), [1.0])
    trainer.fit(module, train_dataloaders=torch.utils.data.DataLoader([step], batch_size=None, collate_fn=None))
    after = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)), "no weight has moved"
    assert all(parameter.isfinite().all() for parameter in after), "weights are not finite"
    return True


@torch.no_grad()
def check_export(policy: Any, tokenizer: Any, base: Path, folder: Path) -> bool:
    """Logits of the merged model are those of the run."""
    from sempa_lightning.export import export

    for name, parameter in policy.named_parameters():
        if "lora_B" in name or not isinstance(policy, PeftModel):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    run = RunDir(folder / "run")
    save_policy(policy, tokenizer, run)
    run.config.write_text(yaml.safe_dump(_config(base)))
    run.manifest.write_text('{"command": "", "seed": 0, "data": {}}')
    run.summary.write_text("{}")
    ids = torch.tensor([tokenizer.encode("A dog runs and it rains.")])
    policy.eval()
    expected = policy(input_ids=ids, use_cache=False).logits
    close(load_run(run, {}).policy.eval()(input_ids=ids, use_cache=False).logits, expected, "logits of the saved run")
    out = folder / "export"
    try:
        export(run, out, None, None)
    except UserError as error:
        if "formats=" not in str(error):
            raise
        export(run, out, ["adapter", "merged"], None)
    close(
        load_causal_lm(str(out / "merged")).model.eval()(input_ids=ids, use_cache=False).logits,
        expected,
        "merged logits",
    )
    return True


def close(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """Compare, and say what differs."""
    assert found.shape == expected.shape, f"{what}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    off = float((found - expected).abs().max())
    assert off <= 2e-3 * max(1.0, float(expected.abs().max())), f"{what} is off by {off:.3g}"


def _config(base: Path) -> dict[str, Any]:
    package = "sempa_lightning"
    template = {"_target_": f"{package}.prompts.template.PromptTemplate"}
    return {
        "model": {"_target_": f"{package}.models.causal_lm.load_causal_lm", "path": str(base)},
        "adapter": {
            "_target_": f"{package}.models.adapters.Lora",
            "r": 4,
            "alpha": 8,
            "dropout": 0.0,
            "target_modules": "all-linear",
        },
        "objective": {
            "_target_": f"{package}.training.objectives.preference.Preference",
            "loss": {"_target_": f"{package}.losses.plackett_luce.PlackettLuce", "beta": 0.1},
        },
        "data": {"train": {"table": {"path": f"pkg://{package}/assets/demo/train.jsonl"}}},
        "prompt": {**template, "text": PROMPT.text, "separator": PROMPT.separator},
        "readout": {
            "_target_": f"{package}.models.readout.Readout",
            "template": {**template, "text": READOUT.template.text},
            "preprocess": {
                "_target_": "hydra.utils.get_method",
                "path": f"{package}.prompts.sentence.end_with_full_stop",
            },
            "layer": -1,
            "pooling": {"_target_": f"{package}.pooling.last_token.last_token", "_partial_": True},
        },
    }
