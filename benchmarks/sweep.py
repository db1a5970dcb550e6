"""How long does a sweep over learning rate and β take, beside TRL with precomputed reference log-probabilities?

SEMPA_DATA_DIR=<folder> python benchmarks/sweep.py [--steps 20] [--in-memory]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count, product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
from lightning.pytorch.callbacks import LambdaCallback
from peft import PeftModel
from torch import Tensor

from peers import (
    BATCH_SIZE,
    MAX_GRAD_NORM,
    MODELS,
    PeakMemory,
    TokenCounter,
    Worker,
    attach_lora,
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
from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder, load_causal_lm
from sempa_lightning.scoring.reference import AdapterDisabled, Cached
from sempa_lightning.types import PreferenceBatch

TRIALS = list(product((3e-4, 1e-3), (0.05, 0.1, 0.2, 0.5)))
LOSS_BAR, CHECKED_STEPS = 1e-4, 5


class Trial(NamedTuple):
    """What a side tells of one run.

    Attributes:
        seconds: From loading the model to the end of training.
        losses: The loss of each step.
        reference_forwards: How often the reference model was run on a batch.
        tokens: Tokens that the decoder was run on, for policy and reference.
        peak_gb: Peak memory of all runs so far, above what the process held before the first.
    """

    seconds: float
    losses: list[float]
    reference_forwards: int
    tokens: int
    peak_gb: float


class Fitted(NamedTuple):
    """What a run leaves behind.

    Attributes:
        losses: The loss of each step.
        counter: Of the decoder's tokens.
    """

    losses: list[float]
    counter: TokenCounter


class CountedReference(AdapterDisabled):
    """The live reference, which counts how often it is run."""

    forwards = 0

    def logps(self, policy: PeftModel, batch: PreferenceBatch) -> Tensor:
        """Score a batch."""
        CountedReference.forwards += 1
        return super().logps(policy, batch)


def serve(
    connection: Connection, settings: str, fit: Callable[[float, float], Fitted], forwards: Callable[[], int]
) -> None:
    """Answer every call, a learning rate and a β, with a run."""
    memory = PeakMemory(torch.device("cpu"))
    memory.reset()
    connection.send(settings)
    while True:
        learning_rate, beta = connection.recv()
        before, start = forwards(), time.perf_counter()
        fitted = fit(learning_rate, beta)
        seconds = time.perf_counter() - start
        connection.send(Trial(seconds, fitted.losses, forwards() - before, fitted.counter.tokens, memory.gb()))


def run_ours(connection: Connection, model_folder: str, rows: list[Row]) -> None:
    """Our side: all runs share a cache folder, empty at first."""
    with tempfile.TemporaryDirectory() as cache:

        def fit(learning_rate: float, beta: float) -> Fitted:
            model, tokenizer = load_causal_lm(model_folder)
            counter = TokenCounter(decoder(model))
            policy = attach_lora(model)
            reference = Cached(policy, CountedReference, cache)
            losses: list[float] = []
            keep_loss = LambdaCallback(
                on_train_batch_end=lambda trainer, *_: losses.append(trainer.callback_metrics["train/loss"].item())
            )
            trainer = our_trainer(callbacks=[keep_loss])
            data = data_module(tokenizer, rows, fit_length(model), cache)
            trainer.fit(our_module(policy, reference, beta=beta, learning_rate=learning_rate), data)
            return Fitted(losses, counter)

        serve(connection, "one cache folder, empty at first", fit, lambda: CountedReference.forwards)


def run_trl(connection: Connection, model_folder: str, rows: list[Row], in_memory: bool) -> None:
    """TRL's side: rows come from a file, so that `datasets` keeps for all runs what it can, or from memory."""
    from trl import DPOTrainer

    score, calls = DPOTrainer.compute_ref_log_probs, count()
    made = {"forwards": 0}

    def counted(self: DPOTrainer, *args: Any) -> Any:  # noqa: ANN401 (as TRL has it)
        made["forwards"] += 1
        return score(self, *args)

    DPOTrainer.compute_ref_log_probs = counted
    model, tokenizer = load_causal_lm(model_folder)
    start, lora, _ = detach_lora(attach_lora(model))
    with tempfile.TemporaryDirectory() as folder:
        texts = datasets.Dataset.from_dict(preference_texts(tokenizer, rows))
        file = Path(folder, "rows.jsonl")
        texts.to_json(file)

        def read() -> datasets.Dataset:
            if in_memory:
                return texts
            return datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=f"{folder}/datasets")

        def fit(learning_rate: float, beta: float) -> Fitted:
            model, tokenizer = load_causal_lm(model_folder)
            counter = TokenCounter(decoder(model))
            torch.manual_seed(0)  # as in every script: TRL's cache is for one start of the adapter
            trainer = trl_trainer(
                model,
                lora,
                start,
                tokenizer,
                read(),
                output_dir=f"{folder}/{next(calls)}",
                beta=beta,
                learning_rate=learning_rate,
                lr_scheduler_type="constant",
                max_grad_norm=MAX_GRAD_NORM,
                per_device_train_batch_size=BATCH_SIZE,
                num_train_epochs=1,
                precompute_ref_log_probs=True,
            )
            trainer.train()
            return Fitted([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], counter)

        where = "in memory" if in_memory else "in a file, with the cache of `datasets`"
        settings = f"precompute_ref_log_probs=True, gradient_checkpointing=False, rows {where}"
        serve(connection, settings, fit, lambda: made["forwards"])


def report(theirs: list[Trial], ours: list[Trial]) -> float:
    """Sum up both sides' runs; return the ratio of all seconds."""
    seconds = [[trial.seconds for trial in side] for side in (theirs, ours)]
    print(f"seconds a run: TRL {spread(seconds[0])}, ours {spread(seconds[1])}; ratio {spread(pairwise(*seconds))},")
    print(f"of medians {ratio_of_medians(*seconds):.2f}; peak GB {theirs[-1].peak_gb:.2f}, {ours[-1].peak_gb:.2f}")
    return sum(seconds[0]) / sum(seconds[1])


def line(trial: tuple[float, float], their: Trial, our: Trial) -> str:
    """A row of the table."""
    return (
        f"{trial[0]:>8}{trial[1]:>6}{their.seconds:>9.1f}{our.seconds:>9.1f}{their.seconds / our.seconds:>7.2f}"
        f"{their.reference_forwards:>10}{our.reference_forwards:>10}{their.tokens:>10}{our.tokens:>8}"
    )


def main(args: argparse.Namespace) -> None:
    """Run the trials, each on both sides, each side beginning every other time.

    Raises:
        UserError: If TRL or data are missing, losses differ, or a later trial of ours runs the reference.
    """
    require("trl")
    tokenizer = gpt2_tokenizer()
    rows = [row for row, _ in fit_rows(tokenizer, 256, args.steps * BATCH_SIZE)]
    told: tuple[list[Trial], list[Trial]] = ([], [])
    off = 0.0
    with tempfile.TemporaryDirectory() as folder:
        MODELS[args.model](tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with (
            Worker("TRL", run_trl, folder, rows, args.in_memory, threads=args.threads) as trl,
            Worker("ours", run_ours, folder, rows, threads=args.threads) as ours,
        ):
            workers = (trl, ours)
            print(f"TRL: {trl.answer()}\nours: {ours.answer()}")
            print(f"{'':>14}{'seconds':>18}{'':>7}{'reference forwards':>20}{'tokens':>18}")
            print(f"{'lr':>8}{'beta':>6}{'TRL':>9}{'ours':>9}{'ratio':>7}{'TRL':>10}{'ours':>10}{'TRL':>10}{'ours':>8}")
            for number, trial in enumerate(TRIALS):
                for place in (1, 0) if number % 2 else (0, 1):
                    told[place].append(workers[place].ask(trial))
                print(line(trial, told[0][-1], told[1][-1]), flush=True)
                differences = [abs(a - b) for a, b in zip(*(side[-1].losses for side in told), strict=True)]
                off = max(off, *differences)
                if not max(differences[:CHECKED_STEPS]) < LOSS_BAR:
                    raise UserError(f"at {trial} the losses differ by {max(differences):.2g}: no comparison")
    speedup = report(*told)
    forwards = sum(trial.reference_forwards for trial in told[1][1:])
    result = {
        "model": args.model,
        "in_memory": args.in_memory,
        "speedup": speedup,
        "reference_forwards_after_first": forwards,
    }
    print(json.dumps({**result, "loss_max_abs_diff": off}))
    if forwards:
        raise UserError(f"the cached reference was run {forwards} times after the first trial")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(MODELS), default="small")
    parser.add_argument("--steps", type=int, default=20, help=f"steps of {BATCH_SIZE} rows of each run")
    parser.add_argument("--in-memory", action="store_true", help="TRL's rows have no file, so it caches nothing")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch on each side")
    tell(partial(main, parser.parse_args()))
