"""Runs suites of tasks on a subject."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sempa_lightning.errors import UserError
from sempa_lightning.escape import for_terminal
from sempa_lightning.evaluation.as_found import as_found
from sempa_lightning.evaluation.bootstrap import change_standard_errors
from sempa_lightning.evaluation.task import Measurement, Subject, Task
from sempa_lightning.evaluation.task import Progress as Track

Suites = Mapping[str, Mapping[str, Task]]


def named(suites: Suites) -> dict[str, Task]:
    """Name the tasks `suite/task`."""
    return {f"{suite}/{name}": task for suite, members in suites.items() for name, task in members.items()}


def skipped(suites: Suites) -> dict[str, str]:
    """Why tasks cannot run here, for each whose data is not here."""
    return {name: task.missing for name, task in named(suites).items() if task.missing}


def available(suites: Suites, console: Console) -> dict[str, Task]:
    """Name the tasks; leave out, with a line each, those whose data is not here."""
    missing = skipped(suites)
    for name, reason in missing.items():
        console.print(f"{name} is left out: {reason}", style="yellow", soft_wrap=True)
    return {name: task for name, task in named(suites).items() if name not in missing}


def measure(
    task: Task, subject: Subject, progress: Track, seed: int = 0, *, allow_nonfinite: bool = False
) -> Measurement:
    """Run a task; the model and the generators of random numbers are left as found (see `as_found`).

    Args:
        task: The task.
        subject: The subject.
        progress: Wraps what the task goes through.
        seed: Seeds Python, numpy and torch.
        allow_nonfinite: Accept a metric that is not a finite number, for a model that is still training.

    Raises:
        UserError: If a metric of the task is not a finite number.
    """
    with as_found(subject.model, seed):
        measured = task.run(subject, progress)
    for metric, value in task.metrics(measured.items).items():
        if not (allow_nonfinite or math.isfinite(value)):
            raise UserError(
                f"{metric} is {value}, not a finite number: are all embeddings equal, or do outputs overflow?"
            )
    return measured


def bars(console: Console) -> Progress:
    """Progress bars of tasks, by name."""
    columns = (
        TextColumn("{task.description:<34}", markup=False),
        BarColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Progress(*columns, console=console)


def run_tasks(
    tasks: Mapping[str, Task],
    subject: Subject,
    label: str,
    console: Console,
    failed: dict[str, str] | None = None,
) -> dict[str, Measurement]:
    """Measure a subject on all tasks, showing a progress bar for each.

    Args:
        tasks: Tasks by name.
        subject: The subject.
        label: Name of the subject.
        console: Where the bars go.
        failed: Receives the error of each task that fails, by `<label>/<name>`; such a task has no measurement. None
            raises the first.

    Raises:
        UserError: If a task fails and `failed` is None.
    """
    measured: dict[str, Measurement] = {}
    with bars(console) as shown:
        for name, task in tasks.items():
            key = f"{label}/{name}"
            try:
                measured[name] = measure(task, subject, tracker(shown, key))
            except UserError as error:
                if failed is None:
                    raise UserError(f"{key}: {error}") from error
                failed[key] = str(error)
    return measured


def tracker(shown: Progress, name: str) -> Track:
    """What a task shows its progress with: a bar of this name."""
    return lambda values: shown.track(values, description=for_terminal(name))


def summarize(tasks: Mapping[str, Task], measured: Mapping[str, Mapping[str, Measurement]]) -> dict[str, float]:
    """Flatten what tasks measured, by label of the subject and name of the task, to one number for each key.

    `<label>/<suite>/<task>/<metric>`, and where there are `before` and `after` also `change_se/…`: the standard error
    of after - before by a paired bootstrap over the items.
    """
    summary: dict[str, float] = {}
    for name, task in tasks.items():
        items = {label: members[name].items for label, members in measured.items() if name in members}
        values = {label: task.metrics(content) for label, content in items.items()}
        if {"before", "after"} <= items.keys():
            values["change_se"] = change_standard_errors(task.metrics, items["before"], items["after"])
        summary |= {f"{label}/{name}/{key}": number for label, found in values.items() for key, number in found.items()}
    return summary
