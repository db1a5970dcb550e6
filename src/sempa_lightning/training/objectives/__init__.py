"""What is minimised: an objective maps policy, reference and a step to one unreduced loss for each row."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import nn

from sempa_lightning.scoring.reference import Reference
from sempa_lightning.types import StepBatch, Terms


@runtime_checkable
class Objective(Protocol):
    """A training objective.

    An objective is written for one kind of batch, which the datamodule must yield.
    """

    def __call__(self, policy: nn.Module, reference: Reference, step: StepBatch) -> Iterator[Terms]:
        """Yield, for each micro-batch of the step in turn, one loss for each of its rows, and sums of metrics.

        The caller takes the gradients of one micro-batch before it asks for the next.
        """
