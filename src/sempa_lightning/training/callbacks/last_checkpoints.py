"""The checkpoints that a run is resumed from."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sempa_lightning.artifacts import RunDir
from sempa_lightning.check import check_count
from sempa_lightning.files import flush, naming


class LastCheckpoints(Checkpoint):
    """Keeps the last checkpoints of a run: `last.ckpt`, the one before it as `last-1.ckpt`, and so on.

    One is written after each validation, and between two steps where a signal ends the run there (see
    `StopBetweenSteps`). It takes the place of the others when it is whole.

    Args:
        run_dir: The run's folder.
        keep: How many; with one, a checkpoint that is damaged later leaves nothing to go on from.

    Raises:
        UserError: If `keep` is no number of checkpoints.
    """

    def __init__(self, run_dir: str, keep: int) -> None:
        check_count("callbacks.last.keep", keep)
        self._run = RunDir(run_dir)
        self._keep = keep
        self._saved_step: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 (Lightning's signature)
        """Save what has been validated."""
        if not trainer.sanity_checking and not trainer.fast_dev_run:  # type: ignore[attr-defined]  # it has
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Save the last step of a run that leaves between two steps."""
        if isinstance(exception, SIGTERMException) and trainer.global_step != self._saved_step:
            self._save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Say whether something has ended the training before its last step: then there is no next step."""
        checkpoint["stopped_early"] = trainer.should_stop and trainer.global_step < trainer.estimated_stepping_batches

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Leave a training that has ended early at its end."""
        trainer.should_stop |= checkpoint.get("stopped_early", False)

    def _save(self, trainer: Trainer) -> None:
        """Write a checkpoint beside the others, then move all by one place."""
        for logger in trainer.loggers:
            logger.save()
        run = self._run
        fresh = run.last_checkpoint.with_name(f".{run.last_checkpoint.name}.next")
        with naming(run.last_checkpoint):
            trainer.save_checkpoint(fresh)
            if trainer.is_global_zero:
                for age in reversed(range(1, self._keep)):
                    if (younger := run.earlier_checkpoint(age - 1)).is_file():
                        younger.replace(run.earlier_checkpoint(age))
                fresh.replace(run.last_checkpoint)
                flush(run.checkpoints)
        self._saved_step = trainer.global_step
