"""How long does an optimiser step take, and how much memory, beside TRL's DPOTrainer? On the same weights and rows.

SEMPA_DATA_DIR=<folder> python benchmarks/train_step.py [--workload llama3_8b] [--steps 8] [--only live cached]
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import datasets
import lightning
import torch
from peft import PeftModel
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from peers import (
    BATCH_SIZE,
    MAX_GRAD_NORM,
    MODELS,
    PROMPT,
    PeakMemory,
    TokenCounter,
    Worker,
    attach_lora,
    component,
    data_module,
    detach_lora,
    fit_length,
    fit_rows,
    gpt2_tokenizer,
    our_module,
    our_trainer,
    pairwise,
    preference_texts,
    ratio_of_medians,
    require,
    spread,
    tell,
    trl_trainer,
)
from sempa_lightning.data.rows import Row
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder
from sempa_lightning.scoring.reference import AdapterDisabled, Cached
from sempa_lightning.types import TokenizedRow

BETA, LEARNING_RATE = 0.1, 1e-3
WARM_UP = 2
POOL = 1024  # rows that batches of like length are made of


@dataclass(frozen=True)
class Workload:
    """A model and how it is trained.

    Attributes:
        model: Makes the model, on its device.
        device: Where.
        dtype: Dtype of the computation.
        loss_bar: Losses of the two sides, before anything is timed, differ by less than this.
    """

    model: Callable[[PreTrainedTokenizerBase], PreTrainedModel]
    device: torch.device
    dtype: torch.dtype
    loss_bar: float


@dataclass(frozen=True)
class Side:
    """One way to train.

    Attributes:
        name: For the table.
        trl: Whether it is TRL's trainer or ours.
        cached: Whether the reference's log-probabilities are known before training.
        by_length: Whether batches hold rows of like length.
        rejected: Rejected candidates of each anchor.
        in_batch: Rejected candidates of each anchor beside them, taken from other anchors of the step.
        helped: Whether TRL is given what it has no setting for (`help_trl`).
    """

    name: str
    trl: bool
    cached: bool = True
    by_length: bool = False
    rejected: int = 1
    in_batch: int = 0
    helped: bool = False


class Step(NamedTuple):
    """What a side tells of one optimiser step.

    Attributes:
        seconds: From the end of the step before to the end of this one, but for the wait in between.
        loss: Its loss.
        tokens: Tokens that the decoder was run on, for policy and reference.
        peak_gb: Peak memory of all steps so far, above weights and adapter.
    """

    seconds: float
    loss: float
    tokens: int
    peak_gb: float


OURS = Side("ours, cached", trl=False)
LIVE = Side("ours, live reference", trl=False, cached=False)
COMPARISONS = {
    "live": (Side("TRL", trl=True, cached=False), LIVE),
    "cached": (Side("TRL, precomputed", trl=True), OURS),
    "cached_sorted": (
        Side("TRL, precomputed, like lengths", trl=True, by_length=True),
        replace(OURS, name="ours, cached, like lengths", by_length=True),
    ),
    "helped": (
        Side("TRL, precomputed, like lengths, helped", trl=True, by_length=True, helped=True),
        replace(OURS, name="ours, cached, like lengths", by_length=True),
    ),
    "k4": (replace(OURS, name="ours, cached, K=4", rejected=3), replace(OURS, name="ours, cached, K=2")),
    "k8": (replace(OURS, name="ours, cached, K=8", rejected=7), replace(OURS, name="ours, cached, K=2")),
    # Such candidates are scored by a live reference, so both sides are.
    "inbatch_k8": (replace(LIVE, name="ours, live, K=8 in batch", in_batch=6), replace(LIVE, name="ours, live, K=2")),
}
"""Pairs that take turns; what is reported is the first over the second."""


def llama3_8b(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model of the shape of Llama-3-8B on the GPU, its weights random, always the same."""
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            return LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(default)


WORKLOADS = {
    **{name: Workload(model, torch.device("cpu"), torch.float32, loss_bar=1e-4) for name, model in MODELS.items()},
    "llama3_8b": Workload(llama3_8b, torch.device("cuda"), torch.bfloat16, loss_bar=0.05),
}


class Turns:
    """Waits before each step until it is asked for, and reports after it.

    Args:
        connection: To the one who asks.
        model: Whose decoder's tokens are counted; memory is counted from here.
        device: Where it is.
    """

    def __init__(self, connection: Connection, model: nn.Module, device: torch.device) -> None:
        self._connection = connection
        self._counter = TokenCounter(decoder(model))
        self._memory = PeakMemory(device)
        self._device = device
        self._tokens, self._start = 0, 0.0

    def begin(self) -> None:
        """Wait before the first step."""
        self._memory.reset()
        self._wait()

    def end(self, loss: float) -> None:
        """Report a step and wait before the next."""
        self._synchronize()
        seconds = time.perf_counter() - self._start
        step = Step(seconds, loss, self._counter.tokens - self._tokens, self._memory.gb())
        self._connection.send(step)
        self._wait()

    def _wait(self) -> None:
        self._connection.recv()
        self._synchronize()
        self._tokens = self._counter.tokens
        self._start = time.perf_counter()

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


class TrlTurns(TrainerCallback):
    """TRL's steps: the loss comes with the log, the last thing that a step does."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_train_begin(self, *_: Any, **__: Any) -> None:  # noqa: ANN401, D102
        self._turns.begin()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:  # noqa: ANN401, D102
        if "loss" in logs:
            self._turns.end(logs["loss"])


class OurTurns(lightning.Callback):
    """Our steps."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_train_start(self, *_: Any) -> None:  # noqa: ANN401, D102
        self._turns.begin()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:  # noqa: ANN401, D102
        self._turns.end(trainer.callback_metrics["train/loss"].item())


def help_trl(workload: Workload, settings: dict[str, Any]) -> None:
    """Give TRL the fastest optimiser and, on a CPU, the head that it has on GPUs: at scored positions only."""
    settings["optim"] = "adamw_torch_fused"
    if workload.device.type == "cpu":
        from trl.trainer import utils

        utils._use_triton = lambda _: True  # asked there for one thing: whether to leave out the other positions


def run_trl(connection: Connection, side: Side, workload_name: str, rows: list[Row]) -> None:
    """TRL's side: train, one step each time that it is asked to."""
    workload = WORKLOADS[workload_name]
    tokenizer = gpt2_tokenizer()
    start, lora, model = detach_lora(attach_lora(workload.model(tokenizer)))
    on_gpu = workload.device.type == "cuda"
    settings: dict[str, Any] = {
        "beta": BETA,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": MAX_GRAD_NORM,
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": 1,
        "precompute_ref_log_probs": side.cached,
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
    }
    if side.helped:
        help_trl(workload, settings)
    turns = Turns(connection, model, workload.device)
    with tempfile.TemporaryDirectory() as folder:
        texts = datasets.Dataset.from_dict(preference_texts(tokenizer, rows))
        trainer = trl_trainer(model, lora, start, tokenizer, texts, output_dir=folder, **settings)
        trainer.add_callback(TrlTurns(turns))
        connection.send(f"{settings} gradient_checkpointing=False, head at scored positions: {on_gpu or side.helped}")
        trainer.train()


def run_ours(connection: Connection, side: Side, workload_name: str, rows: list[Row]) -> None:
    """Our side: train, one step each time that it is asked to."""
    workload = WORKLOADS[workload_name]
    tokenizer = gpt2_tokenizer()
    policy = attach_lora(workload.model(tokenizer))
    turns = Turns(connection, policy, workload.device)
    on_gpu = workload.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        data = data_module(tokenizer, rows, fit_length(policy), folder, side.in_batch)
        reference = AdapterDisabled(policy)
        if side.cached:
            reference = Cached(policy, AdapterDisabled, folder)
            with torch.autocast(workload.device.type, workload.dtype, enabled=on_gpu):
                fill(reference, policy, tokenizer, rows)
        trainer = our_trainer(
            accelerator="gpu" if on_gpu else "cpu",
            precision="bf16-mixed" if on_gpu else "32-true",
            callbacks=[OurTurns(turns)],
        )
        connection.send("packed")
        trainer.fit(our_module(policy, reference, beta=BETA, learning_rate=LEARNING_RATE), data)


def fill(reference: Cached, policy: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> None:
    """The first pass over the rows, which finds nothing in the cache."""
    layout = component("scoring/packed.yaml")
    tokenized = list(RowTokenizer(tokenizer, PROMPT, fit_length(policy), "error")(rows, {}))
    for at in range(0, len(tokenized), BATCH_SIZE):
        batch = layout(tokenized[at : at + BATCH_SIZE], tokenizer.pad_token_id)
        reference.logps(policy, batch.to(next(policy.parameters()).device))


def choose(pool: Sequence[tuple[Row, TokenizedRow]], side: Side, number: int) -> list[Row]:
    """The first rows, or batches of like length out of all; more rejected are other rows' contradictions."""
    pool = list(pool)
    if side.by_length:
        pool.sort(key=lambda pair: len(pair[1].prompt_ids) + max(map(len, pair[1].completion_ids)))
        batches = [pool[at : at + BATCH_SIZE] for at in range(0, len(pool), BATCH_SIZE)]
        random.Random(0).shuffle(batches)
        pool = [pair for batch in batches for pair in batch]
    rows = [row for row, _ in pool]
    contradictions = [row.rejected[0] for row in rows]
    return [
        replace(row, rejected=distinct([*contradictions[at:], *contradictions], row.chosen, side.rejected))
        for at, row in enumerate(rows[:number])
    ]


def distinct(texts: Sequence[str], chosen: Sequence[str], number: int) -> tuple[str, ...]:
    """The first different texts that are not chosen."""
    return tuple(text for text in dict.fromkeys(texts) if text not in chosen)[:number]


def take_turns(
    pair: tuple[Side, Side], workload_name: str, rows: tuple[list[Row], list[Row]], steps: int, threads: int
) -> tuple[list[Step], list[Step]]:
    """Train both sides, step by step, each beginning every other time.

    Raises:
        UserError: If losses differ before anything is timed.
    """
    told: tuple[list[Step], list[Step]] = ([], [])
    with ExitStack() as stack:
        workers = []
        for side, side_rows in zip(pair, rows, strict=True):
            run = run_trl if side.trl else run_ours
            worker = stack.enter_context(Worker(side.name, run, side, workload_name, side_rows, threads=threads))
            print(f"{side.name}: {worker.answer()}", flush=True)  # built before the next one begins
            workers.append(worker)
        for number in range(WARM_UP + steps):
            for place in (0, 1) if number % 2 else (1, 0):
                told[place].append(workers[place].ask())
            off = abs(told[0][-1].loss - told[1][-1].loss)
            if pair[0].trl and number < WARM_UP and not off < WORKLOADS[workload_name].loss_bar:
                raise UserError(f"the losses of {pair[0].name} and {pair[1].name} differ by {off:.2g}: no comparison")
    return told


def report(pair: tuple[Side, Side], told: tuple[list[Step], list[Step]]) -> tuple[float, float]:
    """Print a comparison; return the ratios of time and of memory."""
    timed = tuple(steps[WARM_UP:] for steps in told)
    print(f"{'':<40}{'seconds a step':>22}{'anchors/s':>11}{'tokens':>8}{'peak GB':>9}  losses")
    for side, steps, all_steps in zip(pair, timed, told, strict=True):
        seconds = [step.seconds for step in steps]
        rate, tokens = BATCH_SIZE / statistics.median(seconds), statistics.median(step.tokens for step in steps)
        losses = " ".join(f"{step.loss:.4f}" for step in all_steps[: WARM_UP + 1])
        print(
            f"{side.name:<40}{spread(seconds, 3):>22}{rate:>11.2f}{tokens:>8.0f}{steps[-1].peak_gb:>9.2f}"
            f"  {losses} .. {all_steps[-1].loss:.4f}"
        )
    seconds = tuple([step.seconds for step in steps] for steps in timed)
    time_ratio, memory_ratio = ratio_of_medians(*seconds), timed[0][-1].peak_gb / timed[1][-1].peak_gb
    ratios = pairwise(*seconds)
    print(f"ratio of medians {time_ratio:.2f} ({min(ratios):.2f}..{max(ratios):.2f}), of peaks {memory_ratio:.2f}\n")
    return time_ratio, memory_ratio


def main(args: argparse.Namespace) -> None:
    """Compare pair by pair.

    Raises:
        UserError: If TRL, the data or the GPU is missing, or losses differ.
    """
    require("trl")
    if WORKLOADS[args.workload].device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"the workload {args.workload} needs a GPU, and torch sees none")
    number = (WARM_UP + args.steps) * BATCH_SIZE
    pool = fit_rows(gpt2_tokenizer(), 256, max(POOL, number))
    ratios: dict[str, tuple[float, float]] = {}
    off = []
    for name in args.only:
        pair = COMPARISONS[name]
        rows = tuple(choose(pool, side, number) for side in pair)
        told = take_turns(pair, args.workload, rows, args.steps, args.threads)
        ratios[name] = report(pair, told)
        if pair[0].trl:
            off += [abs(a.loss - b.loss) for a, b in zip(*told, strict=True)]
    nothing = (None, None)
    names = ("cached", "cached_sorted", "live", "helped")
    speedups = {f"speedup_{name}": ratios.get(name, nothing)[0] for name in names}
    print(
        json.dumps(
            {
                "workload": args.workload,
                **speedups,
                "memory_ratio": ratios.get("cached", nothing)[1],
                "k4_over_k2": ratios.get("k4", nothing)[0],
                "k8_over_k2": ratios.get("k8", nothing)[0],
                "inbatch_k8_over_k2": ratios.get("inbatch_k8", nothing)[0],
                "loss_max_abs_diff": torch.tensor(off).max().item() if off else None,
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=list(WORKLOADS), default="small")
    parser.add_argument("--steps", type=int, default=8, help=f"timed steps, after {WARM_UP} of warm-up")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch on each side")
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), default=list(COMPARISONS))
    tell(partial(main, parser.parse_args()))
