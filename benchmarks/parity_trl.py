"""Does our preference training do what TRL's DPOTrainer does? Same model, rows and settings, step by step.

SEMPA_DATA_DIR=<folder> python benchmarks/parity_trl.py [--model <folder>]
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import datasets
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn

from peers import (
    BETAS,
    EPS,
    LORA,
    WEIGHT_DECAY,
    fit_rows,
    our_trainer,
    preference_texts,
    require,
    tell,
    trl_trainer,
)
from sempa_lightning.data.steps import StepLoader
from sempa_lightning.errors import UserError
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.models.causal_lm import load_causal_lm, max_positions
from sempa_lightning.scoring.padded import Padded, pad
from sempa_lightning.scoring.reference import AdapterDisabled
from sempa_lightning.training.module import TrainingModule
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.training.optimizers import cosine_with_warmup
from sempa_lightning.types import StepBatch, TokenizedRow

NUM_ROWS, BATCH_SIZE, EPOCHS = 64, 8, 3
BETA, LEARNING_RATE = 0.1, 2e-3
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
        Padded(),
    )
    cuts = [rows[at : at + BATCH_SIZE] for at in range(0, NUM_ROWS, BATCH_SIZE)]
    steps: Any = [StepBatch([pad(cut, pad_token_id)], size=len(cut), weights=[1.0]) for cut in cuts]
    losses: list[float] = []
    keep_loss = LambdaCallback(
        on_train_batch_end=lambda trainer, *_: losses.append(trainer.callback_metrics["train/loss"].item())
    )
    gradients = record_first_gradients(policy)
    trainer = our_trainer(max_epochs=EPOCHS, callbacks=[keep_loss])
    trainer.fit(module, StepLoader(steps, range(len(steps)), num_workers=0))
    return Curve(losses, gradients)


def trl_settings(folder: str) -> dict[str, Any]:
    """What TRL's trainer is told beside what `trl_trainer` says."""
    return {
        "output_dir": folder,
        "beta": BETA,
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": EPOCHS,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARMUP_RATIO,
        "max_grad_norm": MAX_GRAD_NORM,
    }


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


def main(path: str) -> None:
    """Train on both sides and compare.

    Raises:
        UserError: If data or model are missing, token ids differ, or a bar is missed.
    """
    require("trl")
    torch.manual_seed(0)
    model, tokenizer = load_causal_lm(path)
    rows, tokenized = zip(*fit_rows(tokenizer, max_positions(model), NUM_ROWS), strict=True)
    policy = LORA.attach(model)
    texts = datasets.Dataset.from_dict(preference_texts(tokenizer, rows))
    with tempfile.TemporaryDirectory() as folder:
        lora, start = policy.peft_config["default"], policy.state_dict()
        trainer = trl_trainer(load_causal_lm(path).model, lora, start, tokenizer, texts, **trl_settings(folder))
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
    tell(partial(main, path))
