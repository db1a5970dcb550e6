"""What is minimised: an objective maps a policy and a micro-batch to one unreduced loss for each row."""

from typing import Protocol

from torch import nn

from sempa_lightning.types import PreferenceBatch, Terms, TextBatch


class Objective(Protocol):
    """A training objective."""

    def __call__(self, policy: nn.Module, batch: PreferenceBatch | TextBatch) -> Terms:
        """Compute one loss for each row of the micro-batch, and sums of metrics."""
