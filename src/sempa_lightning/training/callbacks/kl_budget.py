"""The best checkpoint among those that have not moved too far from the reference."""

from typing import Any

from lightning import LightningModule, Trainer
from torch import Tensor

from sempa_lightning.errors import UserError
from sempa_lightning.training.callbacks.best_checkpoint import BestCheckpoint


class BestWithinBudget(BestCheckpoint):
    """Keeps the checkpoint with the best monitored metric among those within a budget of KL(policy ‖ reference).

    At every validation the probe's divergence is compared with the budget; a checkpoint above it, or whose divergence
    is not finite, is not kept, however good its metric. The model as it was before training has a divergence of 0: it
    is kept from the start and counts as worse than any checkpoint within the budget. So if none is, the run ends with
    the untrained model and says so, and its best score is the worst that there is (−∞ for a maximum); what was trained
    is then in `last.ckpt` alone. Where the divergence falls below the budget again, checkpoints are kept again.

    Args:
        kl: Name of the divergence among the logged metrics.
        budget: The largest divergence that is kept, in nats per token.
        checkpoint: Arguments of `BestCheckpoint`.
    """

    def __init__(self, kl: str, budget: float, **checkpoint: Any) -> None:  # noqa: ANN401 (Lightning's)
        super().__init__(**checkpoint)
        self._kl = kl
        self._budget = budget

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the model as it is, unless a run goes on."""
        super().on_train_start(trainer, pl_module)
        if trainer.global_step == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]  # it has
            self.best_model_path = self.format_checkpoint_name({})
            self.best_model_score = self.kth_value  # the worst that there is, while none is kept
            trainer.save_checkpoint(self.best_model_path)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether the model of now is kept.

        Raises:
            UserError: If nothing measures the divergence.
        """
        if self._kl not in trainer.callback_metrics:
            raise UserError(f"the KL budget reads {self._kl}, which no probe measures: choose callbacks=kl_budget")
        is_within = bool(trainer.callback_metrics[self._kl] <= self._budget)
        return is_within and super().check_monitor_top_k(trainer, current)
