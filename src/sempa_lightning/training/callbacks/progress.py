"""A progress bar whose end is the end of the run."""

from lightning.pytorch.callbacks import RichProgressBar


class StepProgressBar(RichProgressBar):
    """Lightning's bar, which counts to the end of the epoch even where `max_steps` comes first."""

    @property
    def total_train_batches(self) -> int | float:
        """Steps of this epoch that the run will take."""
        steps = self.trainer.num_training_batches
        if self.trainer.max_steps < 0:
            return steps
        return min(steps, self.trainer.max_steps - self.trainer.current_epoch * steps)

    def _get_train_description(self, current_epoch: int) -> str:
        """Lightning's, which takes `max_epochs=-1`, no limit, for a number."""
        description = super()._get_train_description(current_epoch)
        return description.replace("/-2", "") if self.trainer.max_epochs == -1 else description
