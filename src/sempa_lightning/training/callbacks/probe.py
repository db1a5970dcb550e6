"""Evaluation tasks during training: what checkpoints are chosen by."""

from collections.abc import Mapping

from lightning import Callback, LightningModule, Trainer
from rich.console import Console

from sempa_lightning.evaluation.runner import available
from sempa_lightning.evaluation.task import Subject, Task


class Probe(Callback):
    """Runs tasks at every validation and logs `eval/<suite>/<task>/<metric>`.

    Every process computes the same numbers, so that all agree on the best checkpoint.

    Args:
        suites: Tasks by suite and name; small ones, they run often.
    """

    def __init__(self, suites: Mapping[str, Mapping[str, Task]]) -> None:
        self._suites = suites
        self._subject: Subject | None = None

    def watch(self, subject: Subject) -> None:
        """Tell the probe what it evaluates."""
        self._subject = subject

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Run the tasks and log their numbers."""
        assert self._subject is not None, "watch() comes first"
        for name, task in available(self._suites, Console(quiet=True)).items():
            metrics = task.metrics(task.run(self._subject, iter))
            for metric, value in metrics.items():
                pl_module.log(f"eval/{name}/{metric}", value, prog_bar=metric == "spearman")
