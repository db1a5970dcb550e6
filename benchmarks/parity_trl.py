"""Does our preference training do what TRL's DPOTrainer does? Same model, rows and settings, step by step.

SEMPA_DATA_DIR=<folder> python benchmarks/parity_trl.py [--model <folder>]
"""

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL reports each trainer that is built; read at import

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import lightning
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback

from sempa_lightning.data.rows import Row
from sempa_lightning.data.steps import StepLoader
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.errors import UserError
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.causal_lm import load_causal_lm, max_positions
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import AdapterDisabled
from sempa_lightning.training.module import TrainingModule
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.training.optimizers import cosine_with_warmup
from sempa_lightning.types import StepBatch, TokenizedRow

try:
    from trl import DPOConfig, DPOTrainer
except ModuleNotFoundError:
    sys.exit("error: this benchmark needs trl: pip install 'sempa-lightning[bench]'")

PROMPT = PromptTemplate(
    text='Keep the same meaning of this sentence: "{sentence}", while making some changes.', separator="\n"
)
NUM_ROWS, BATCH_SIZE, EPOCHS = 64, 8, 3
BETA, LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY = 0.1, 2e-3, (0.9, 0.95), 1e-8, 0.1
MAX_GRAD_NORM = 0.4  # low enough that most steps are clipped
WARMUP_RATIO = 0.125  # 3 of 24 steps, a whole number: we round the warm-up down, transformers rounds it up
LOSS_BAR = GRADIENT_BAR = 1e-4
LEARNED_BY_STEP, LEARNED_LOSS = 10, 0.6  # losses that stay at ln 2 agree whatever is wrong


class Curve(NamedTuple):
    """What one side did.

    Attributes:
        losses: The loss of each optimiser step.
        gradients: Of all trainable parameters at the first step, before clipping.
    """

    losses: list[float]
    gradients: dict[str, Tensor]


def nli_rows() -> Iterator[Row]:
    """Yield real triplets: the entailment is chosen, the contradiction rejected."""
    if not (folder := os.environ.get("SEMPA_DATA_DIR")):
        raise UserError("SEMPA_DATA_DIR is not set: it must name the folder of real data")
    path = Path(folder) / "nli" / "nli_triplets.jsonl"
    if not path.is_file():
        raise UserError(f"no file {path}: SEMPA_DATA_DIR must name the folder of real data")
    with path.open(encoding="utf-8") as lines:
        for triplet in map(json.loads, lines):
            yield Row(triplet["premise"], (triplet["entailment"],), (triplet["contradiction"],))


def fit_rows(tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[tuple[Row, TokenizedRow]]:
    """Take the first rows whose token-level and text-level joins agree, as text and as token ids."""
    tokenize = RowTokenizer(tokenizer, PROMPT, max_length, unfit="drop")
    dropped: Counter[str] = Counter()
    fit = ((row, tokens) for row in nli_rows() for tokens in tokenize([row], dropped))
    pairs = list(islice(fit, NUM_ROWS))
    if len(pairs) < NUM_ROWS:
        raise UserError(f"{NUM_ROWS} fit rows are needed, but there are {len(pairs)}; dropped: {dict(dropped)}")
    print(f"{NUM_ROWS} rows; dropped on the way: {dropped.total()}")
    return pairs


def record_first_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return a mapping that the first backward pass fills with the gradient of each trainable parameter."""
    gradients: dict[str, Tensor] = {}

    def keep(name: str, parameter: Tensor) -> None:
        if name not in gradients and parameter.grad is not None:
            gradients[name] = parameter.grad.detach().clone()

    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(partial(keep, name))
    return gradients


def train_ours(policy: nn.Module, rows: Sequence[TokenizedRow], pad_token_id: int) -> Curve:
    """Train with this package, rows in their order."""
    module = TrainingModule(
        policy,
        AdapterDisabled(policy),
        Preference(PlackettLuce(beta=BETA), nll_weight=0.0, kl_weight=0.0),
        partial(torch.optim.AdamW, lr=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY),
        partial(cosine_with_warmup, warmup_ratio=WARMUP_RATIO),
        MAX_GRAD_NORM,
    )
    cuts = [rows[at : at + BATCH_SIZE] for at in range(0, NUM_ROWS, BATCH_SIZE)]
    steps: Any = [StepBatch([pad(cut, pad_token_id)], size=len(cut), weight=1.0) for cut in cuts]
    losses: list[float] = []
    keep_loss = LambdaCallback(
        on_train_batch_end=lambda trainer, *_: losses.append(trainer.callback_metrics["train/loss"].item())
    )
    gradients = record_first_gradients(policy)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=[keep_loss],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, StepLoader(steps, range(len(steps)), num_workers=0))
    return Curve(losses, gradients)


def trl_trainer(
    model: nn.Module, policy: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], folder: str
) -> DPOTrainer:
    """Build TRL's trainer over the same rows, its adapter holding the policy's weights."""
    config = DPOConfig(
        output_dir=folder,
        loss_type=["sigmoid"],
        beta=BETA,
        max_length=None,
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=EPOCHS,
        train_sampling_strategy="sequential",
        optim="adamw_torch",
        learning_rate=LEARNING_RATE,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        adam_epsilon=EPS,
        weight_decay=WEIGHT_DECAY,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP_RATIO,
        max_grad_norm=MAX_GRAD_NORM,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    texts = {
        "prompt": [PROMPT.prompt(tokenizer, row.anchor) for row in rows],
        "chosen": [row.chosen[0] for row in rows],
        "rejected": [row.rejected[0] for row in rows],
    }
    trainer = DPOTrainer(
        model,
        args=config,
        train_dataset=datasets.Dataset.from_dict(texts),
        processing_class=tokenizer,
        peft_config=policy.peft_config["default"],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.model.load_state_dict(policy.state_dict())
    return trainer


def check_token_ids(ours: Sequence[TokenizedRow], theirs: datasets.Dataset) -> None:
    """Refuse to compare losses of different texts.

    Raises:
        UserError: At the first row whose token ids differ.
    """
    for row, other in zip(ours, theirs, strict=True):
        parts = zip(("prompt", "chosen", "rejected"), (row.prompt_ids, *row.completion_ids), strict=True)
        for part, ids in parts:
            if ids != other[f"{part}_ids"]:
                raise UserError(f"row {row.id}: TRL reads its {part} as {other[f'{part}_ids']}, we as {ids}")


def relative_difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Norm of the difference over the norm of theirs, all parameters taken as one vector."""
    if ours.keys() != theirs.keys():
        raise UserError(f"gradients of different parameters: {sorted(ours.keys() ^ theirs.keys())[:3]}")
    a, b = (torch.cat([side[name].double().flatten() for name in sorted(ours)]) for side in (ours, theirs))
    return ((a - b).norm() / b.norm()).item()


def report(ours: Curve, theirs: Curve) -> list[str]:
    """Print the losses by step and the JSON line; return the bars that were missed."""
    differences = [abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True)]
    print(f"{'step':>4}  {'ours':>10}  {'TRL':>10}  {'difference':>10}")
    for step, row in enumerate(zip(ours.losses, theirs.losses, differences, strict=True), start=1):
        print(f"{step:>4}  {row[0]:>10.6f}  {row[1]:>10.6f}  {row[2]:>10.1e}")
    worst = torch.tensor(differences).max().item()  # unlike max(), it does not lose a NaN
    gradient = relative_difference(ours.gradients, theirs.gradients)
    learned = min(ours.losses[:LEARNED_BY_STEP])
    bars = [
        ("largest difference of a loss", worst, LOSS_BAR),
        ("relative difference of the step-1 gradients", gradient, GRADIENT_BAR),
        (f"lowest loss up to step {LEARNED_BY_STEP}", learned, LEARNED_LOSS),
    ]
    print(json.dumps({"max_abs_diff": worst, "final_loss": ours.losses[-1], "grad_rel_diff": gradient}))
    return [f"{name}: {value:.3g} is not below {bar:g}" for name, value, bar in bars if not value < bar]


def be_quiet() -> None:
    """Keep progress bars, advice and announced deprecations out of the table."""
    datasets.disable_progress_bars()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", module="lightning")


def main(path: str) -> None:
    """Train on both sides and compare.

    Raises:
        UserError: If data or model are missing, token ids differ, or a bar is missed.
    """
    torch.manual_seed(0)
    model, tokenizer = load_causal_lm(path)
    rows, tokenized = zip(*fit_rows(tokenizer, max_positions(model)), strict=True)
    policy = Lora(r=8, alpha=32, dropout=0.0, target_modules="all-linear").attach(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_trainer(load_causal_lm(path).model, policy, tokenizer, rows, folder)
        check_token_ids(tokenized, trainer.train_dataset)
        gradients = record_first_gradients(trainer.model)
        trainer.train()
    theirs = Curve([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], gradients)
    ours = train_ours(policy, tokenized, tokenizer.pad_token_id)
    if missed := report(ours, theirs):
        raise UserError("; ".join(missed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pkg://sempa_lightning/assets/nano", help="folder or Hub name")
    path = parser.parse_args().model
    be_quiet()
    try:
        main(path)
    except UserError as error:
        sys.exit(f"error: {error}")
