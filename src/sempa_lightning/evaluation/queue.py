"""The tasks of an evaluation as a queue that is its folder: what is not there is to do, by whoever comes first."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from sempa_lightning.artifacts import EvaluationDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.claim import claimed
from sempa_lightning.evaluation.drawing import plain_text
from sempa_lightning.evaluation.results import failures, read_measurement, remove_damaged, write_failure, write_result
from sempa_lightning.evaluation.runner import bars, measure, summarize, tracker
from sempa_lightning.evaluation.subjects import Subjects
from sempa_lightning.evaluation.task import Measurement, Pictured, Progress, Task
from sempa_lightning.files import replacing, write_json

_DEATHS = 2
_PAUSE = 0.2


@dataclass(frozen=True)
class Queue:
    """Tasks to measure on subjects; any number of processes may work on one folder at the same time.

    Attributes:
        folder: Where results are written, task by task, and where it shows what is done.
        tasks: Tasks by `suite/task`, those whose data is here.
        labels: Names of the subjects.
        seed: Seeds the random numbers of each task anew.
    """

    folder: EvaluationDir
    tasks: Mapping[str, Task]
    labels: Sequence[str]
    seed: int

    @property
    def places(self) -> list[str]:
        """All that is to be measured, `<subject>/<suite>/<task>`, in the order in which it is."""
        return [f"{label}/{name}" for label in self.labels for name in self.tasks]

    @property
    def rest(self) -> list[str]:
        """What neither gave numbers nor failed."""
        return [place for place in self.places if not self.folder.result(place).is_file()]

    def retry(self) -> None:
        """Let what failed, and what is damaged, be tried again, if nobody is at it now."""
        for place in self.places:
            with claimed(self.folder.claims / place) as claim:
                if claim is not None:
                    remove_damaged(self.folder, place)
        for place in failures(self.folder):
            with claimed(self.folder.claims / place) as claim:
                if claim is not None:
                    claim.forget()
                    self.folder.result(place).unlink(missing_ok=True)

    def work(self, subjects: Subjects, console: Console) -> None:
        """Take one task after the other until all are measured, by this process or by others.

        What a process died at is taken by another one; what two have died at has failed.
        """
        with bars(console) as shown:
            while rest := self.rest:
                taken = [self._take(place, subjects, console, tracker(shown, place)) for place in rest]
                if not any(taken):
                    time.sleep(_PAUSE)

    def finish(self, console: Console) -> dict[str, float]:
        """Write summary (see `summarize`) and pictures of what is done, when no process is at work any more."""
        shutil.rmtree(self.folder.claims, ignore_errors=True)
        found = {
            label: {name: read_measurement(self.folder, f"{label}/{name}") for name in self.tasks}
            for label in self.labels
        }
        done = {label: {name: one for name, one in members.items() if one} for label, members in found.items()}
        summary = summarize(self.tasks, done)
        write_json(self.folder.summary, summary)
        for name, task in self.tasks.items():
            measured = {label: members[name] for label, members in done.items() if name in members}
            if isinstance(task, Pictured) and measured:
                self._draw(name, task, measured, console)
        return summary

    def _draw(self, name: str, task: Pictured, measured: Mapping[str, Measurement], console: Console) -> None:
        try:
            with plain_text(), replacing(self.folder.picture(name)) as temporary:
                task.picture(measured).savefig(temporary, format="png", dpi=120)
        except Exception as error:  # the numbers are written; a picture must not lose the other pictures
            console.print(f"no picture of {name}: {type(error).__name__}: {error}", style="yellow", soft_wrap=True)

    def _take(self, place: str, subjects: Subjects, console: Console, progress: Progress) -> bool:
        """Measure unless another process is at it; tell whether it is over."""
        with claimed(self.folder.claims / place) as claim:
            if claim is None:
                return False
            if self.folder.result(place).is_file():
                return True
            if claim.begun >= _DEATHS:
                error = UserError(f"{claim.begun} processes died at it; was memory short?")
                self._fail(place, error, 0.0, console)
                return True
            label, _, name = place.partition("/")
            with claim.working(), subjects.lend(label) as subject:
                start = time.monotonic()
                try:
                    measured = measure(self.tasks[name], subject, progress, self.seed)
                    metrics = self.tasks[name].metrics(measured.items)
                    write_result(self.folder, place, measured, metrics, time.monotonic() - start)
                except Exception as error:  # whatever a task does wrong, the others are measured
                    self._fail(place, error, time.monotonic() - start, console)
            return True

    def _fail(self, place: str, error: Exception, seconds: float, console: Console) -> None:
        line = write_failure(self.folder, place, error, seconds)
        log = self.folder.log(place)
        more = f"; see {log}" if log.is_file() else ""
        console.print(f"{place} failed: {line}{more}", style="red", soft_wrap=True)


class Watch:
    """A queue that other processes work on.

    Args:
        queue: The queue.
        console: Where what ends is told.
    """

    def __init__(self, queue: Queue, console: Console) -> None:
        self._queue = queue
        self._console = console
        self._told = set(queue.places) - set(queue.rest)

    @property
    def rest(self) -> list[str]:
        """What neither gave numbers nor failed."""
        return self._queue.rest

    def tell(self) -> None:
        """Say what has ended since the last call."""
        for place in self._queue.places:
            if place not in self._told and (result := self._queue.folder.read_result(place)):
                self._told.add(place)
                failed = result.get("failed")
                what, style = ("done", None) if failed is None else (f"failed: {failed}", "red")
                self._console.print(f"{place} {what} ({result['seconds']:.1f} s)", style=style, soft_wrap=True)
