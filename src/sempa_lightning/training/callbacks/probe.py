"""Evaluation tasks during training: what checkpoints are chosen by."""

from collections.abc import Mapping, Sequence

from lightning import Callback, LightningModule, Trainer

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.runner import measure, named
from sempa_lightning.evaluation.task import Subject, Task


class Probe(Callback):
    """Runs tasks at every validation and logs `eval/<suite>/<task>/<metric>`.

    Every process computes the same numbers, so that all agree on the best checkpoint.

    Args:
        suites: Tasks by suite and name; small ones, they run often.
    """

    def __init__(self, suites: Mapping[str, Mapping[str, Task]]) -> None:
        self._tasks = named(suites)
        self._subject: Subject | None = None

    def watch(self, subject: Subject) -> None:
        """Tell the probe what it evaluates.

        Raises:
            UserError: If a task's data is not here: checkpoints could not be chosen by it.
        """
        for name, task in self._tasks.items():
            if task.missing:
                raise UserError(
                    f"the probe cannot run {name}: {task.missing}; set SEMPA_DATA_DIR, or choose callbacks=default and"
                    " the demonstration set"
                )
        self._subject = subject

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Run the tasks and log their numbers.

        Raises:
            UserError: If a task fails.
        """
        assert self._subject is not None, "watch() comes first"
        for name, task in self._tasks.items():
            try:
                measured = measure(task, self._subject, iter, allow_nonfinite=True)
            except UserError as error:
                raise UserError(f"eval/{name}: {error}") from error
            for metric, value in task.metrics(measured.items).items():
                pl_module.log(f"eval/{name}/{metric}", value, prog_bar=metric == "spearman")


def watch(callbacks: Sequence[Callback], subject: Subject) -> None:
    """Tell every probe among the callbacks what it evaluates."""
    for callback in callbacks:
        if isinstance(callback, Probe):
            callback.watch(subject)
