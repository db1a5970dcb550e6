"""What training did to a model: the same tasks and samples, measured before and after."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.picture import save_picture
from sempa_lightning.evaluation.runner import Suites, available, run_tasks, summarize
from sempa_lightning.evaluation.samples import Samples, SampleSpec, draw_samples
from sempa_lightning.evaluation.table import (
    Rows,
    changes,
    neighbour_rows,
    paraphrase_rows,
    print_samples,
    print_summary,
)
from sempa_lightning.evaluation.task import Measurement, Subject


class _Measured(NamedTuple):
    tasks: Mapping[str, Measurement]
    samples: Samples


class BeforeAfter:
    """Measures a subject twice and tells the difference.

    Args:
        suites: Tasks by suite and name; those whose data is not here are left out, with a line each.
        samples: Which neighbours and paraphrases to draw.
        subject: What is measured; training changes its weights in place.
        console: Where progress and tables go.

    Attributes:
        failed: Errors of tasks that failed after training, by `after/<suite>/<task>`.
    """

    def __init__(self, suites: Suites, samples: SampleSpec, subject: Subject, console: Console) -> None:
        self._tasks = available(suites, console)
        self._spec = samples
        self._subject = subject
        self._console = console
        self._measured: dict[str, _Measured] = {}
        self.failed: dict[str, str] = {}

    def measure(self, stage: str) -> None:
        """Measure now, as stage `before` or `after`.

        Raises:
            UserError: If a task fails before training. After it, the weights are worth keeping: see `failed`.
        """
        failed = None if stage == "before" else self.failed
        tasks = run_tasks(self._tasks, self._subject, stage, self._console, failed)
        self._measured[stage] = _Measured(tasks, self._draw(stage))

    def _draw(self, stage: str) -> Samples:
        """Draw samples; none if that fails after training."""
        try:
            return draw_samples(self._subject, self._spec)
        except UserError as error:
            if stage == "before":
                raise
            self.failed[f"{stage}/samples"] = str(error)
            return Samples({}, {})

    @cached_property
    def summary(self) -> dict[str, float]:
        """One number for each key (see `summarize`), once both stages are measured."""
        return summarize(self._tasks, {stage: measured.tasks for stage, measured in self._measured.items()})

    def suites(self) -> dict[str, dict[str, object]]:
        """For each suite its numbers, both stages, and the samples: what `eval/<suite>.json` holds."""
        suites: dict[str, dict[str, object]] = {}
        for stage, measured in self._measured.items():
            for name, measurement in measured.tasks.items():
                suite, _, member = name.partition("/")
                suites.setdefault(suite, {})[f"{stage}/{member}"] = self._tasks[name].metrics(measurement.items)
            suites.setdefault("samples", {})[stage] = measured.samples._asdict()
        return suites

    def tables(self) -> dict[str, Rows]:
        """What `print` prints, by name: `changes`, `neighbours`, `paraphrases`."""
        samples = self._measured["before"].samples, self._measured["after"].samples
        return {
            "changes": [change._asdict() for change in changes(self.summary)],
            "neighbours": neighbour_rows(*samples),
            "paraphrases": paraphrase_rows(*samples),
        }

    def draw(self, path: Path, log: Sequence[Mapping[str, Any]], monitor: str) -> None:
        """Write the picture of the run (see `save_picture`)."""
        save_picture(path, log, monitor, self._measured["before"].tasks, self._measured["after"].tasks)

    def print(self) -> None:
        """Print samples, then the table."""
        print_samples(self._measured["before"].samples, self._measured["after"].samples, self._console)
        print_summary(self.summary, self._console)
