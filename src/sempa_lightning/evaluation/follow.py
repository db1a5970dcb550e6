"""The checkpoints of a run while it trains."""

import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.queue import Queue
from sempa_lightning.evaluation.runner import measure
from sempa_lightning.evaluation.subjects import TrainedRun, read_checkpoint
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.files import cut_unfinished, naming, strict_json


def follow(run: RunDir, policy: TrainedRun, queue: Queue, console: Console, poll: float, patience: float) -> None:
    """Measure each new checkpoint of a run, until the run has ended; a line of `followed.jsonl` for each.

    Args:
        run: The run.
        policy: What its checkpoints are loaded into.
        queue: What to measure; its folder gets the lines. Steps that have theirs already are passed over.
        console: Where lines and failures are told.
        poll: As for `new_checkpoints`.
        patience: As for `new_checkpoints`.
    """
    path = queue.folder.followed
    cut_unfinished(path)
    done = {line.get("step") for line in queue.folder.read_followed()}
    for checkpoint in new_checkpoints(run, poll, patience):
        if (step := checkpoint["global_step"]) in done:
            continue
        policy.load(checkpoint)
        with policy.lend("after") as subject:
            numbers = _numbers(queue, subject, console)
        with naming(path), path.open("a", encoding="utf-8") as lines:
            lines.write(strict_json({"step": step, **numbers}) + "\n")
        console.print(f"step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()))


def _numbers(queue: Queue, subject: Subject, console: Console) -> dict[str, float]:
    """What all tasks give, `eval/<suite>/<task>/<metric>`; a task that fails is told and gives nothing."""
    numbers: dict[str, float] = {}
    for name, task in queue.tasks.items():
        try:
            metrics = task.metrics(measure(task, subject, iter, queue.seed).items)
        except Exception as error:  # whatever a task does wrong, the others are measured
            console.print(f"{name} failed: {type(error).__name__}: {error}", style="red", soft_wrap=True)
            continue
        numbers |= {f"eval/{name}/{metric}": value for metric, value in metrics.items()}
    return numbers


def new_checkpoints(run: RunDir, poll: float, patience: float) -> Iterator[dict[str, Any]]:
    """Yield the last checkpoint whenever there is a new one, until the run has ended.

    A checkpoint that another one replaces while an earlier one is looked at is passed over.

    Args:
        run: The run.
        poll: Seconds between two looks.
        patience: Seconds without a new checkpoint after which the run counts as dead.

    Raises:
        UserError: If the run seems dead.
    """
    seen, since = None, time.monotonic()
    while True:
        ended = run.summary.is_file()  # asked first, so that no checkpoint is missed
        path = run.last_checkpoint
        mark = (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None
        if mark is not None and mark != seen:
            yield read_checkpoint(path)
            seen, since = mark, time.monotonic()
        elif ended:
            return
        elif time.monotonic() - since > patience:
            raise UserError(f"{run.path} has written no checkpoint for {patience:g} seconds: has its training died?")
        else:
            time.sleep(poll)
