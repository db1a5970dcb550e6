"""Runs suites of tasks on a subject."""

from collections.abc import Mapping
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sempa_lightning.evaluation.bootstrap import change_standard_errors
from sempa_lightning.evaluation.task import Items, Subject, Task
from sempa_lightning.models.causal_lm import evaluating

Suites = Mapping[str, Mapping[str, Task]]


def named(suites: Suites) -> dict[str, Task]:
    """Name the tasks `suite/task`."""
    return {f"{suite}/{name}": task for suite, members in suites.items() for name, task in members.items()}


def available(suites: Suites, console: Console) -> dict[str, Task]:
    """Name the tasks; leave out, with a line each, those whose data is not here."""
    tasks = named(suites)
    for name, task in tasks.items():
        if task.missing:
            console.print(f"[yellow]{name} is left out: {task.missing}[/yellow]", soft_wrap=True)
    return {name: task for name, task in tasks.items() if not task.missing}


def run_tasks(tasks: Mapping[str, Task], subject: Subject, label: str, console: Console) -> dict[str, Items]:
    """Measure a subject on all tasks, showing a progress bar for each; the model's mode is left as found."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with evaluating(subject.model), Progress(*columns, console=console) as bars:
        return {
            name: task.run(subject, partial(bars.track, description=f"{label} {name}")) for name, task in tasks.items()
        }


def summarize(tasks: Mapping[str, Task], before: Mapping[str, Items], after: Mapping[str, Items]) -> dict[str, float]:
    """Flatten results to one number for each key.

    `before/<suite>/<task>/<metric>`, `after/…`, and `change_se/…`: the bootstrap standard error of after - before.
    """
    summary: dict[str, float] = {}
    for name, task in tasks.items():
        errors = change_standard_errors(task.metrics, before[name], after[name])
        for stage, values in (
            ("before", task.metrics(before[name])),
            ("after", task.metrics(after[name])),
            ("change_se", errors),
        ):
            summary.update({f"{stage}/{name}/{metric}": value for metric, value in values.items()})
    return summary
