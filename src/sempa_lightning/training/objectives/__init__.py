"""What is minimised: an objective maps policy, reference and a micro-batch to one unreduced loss for each row."""

from typing import Any, Protocol, runtime_checkable

from torch import nn

from sempa_lightning.scoring.reference import Reference
from sempa_lightning.types import Terms


@runtime_checkable
class Objective(Protocol):
    """A training objective.

    An objective is written for one kind of batch, which the datamodule must yield.
    """

    def __call__(self, policy: nn.Module, reference: Reference, batch: Any) -> Terms:  # noqa: ANN401 (see the class)
        """Compute one loss for each row of the micro-batch, and sums of metrics."""
