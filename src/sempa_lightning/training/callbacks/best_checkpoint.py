"""The checkpoint with the best value of the monitored metric."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.monitor import monitor_mode


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the best value of a metric; a metric that nothing logs ends the run at once.

    Args:
        monitor: Name of the metric.
        mode: `max` or `min`: which value is the best; None goes by the metric's name.
        checkpoint: Further arguments of `ModelCheckpoint`.

    Raises:
        UserError: If the metric's name does not say which way is better, and `mode` does not either.
    """

    def __init__(self, monitor: str, mode: str | None = None, **checkpoint: Any) -> None:  # noqa: ANN401 (Lightning's)
        super().__init__(monitor=monitor, mode=monitor_mode(monitor, mode), **checkpoint)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the best so far.

        Raises:
            UserError: If the metric is not among those that were logged.
        """
        logged = trainer.callback_metrics
        if self.monitor not in logged and not self._should_skip_saving_checkpoint(trainer):
            raise UserError(f"monitor={self.monitor} is not logged. Set one of {', '.join(sorted(logged))}.")
        super().on_validation_end(trainer, pl_module)
