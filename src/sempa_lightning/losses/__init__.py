"""Preference losses: each file holds one idea, as a pure function and a thin class that keeps its parameters."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


@runtime_checkable
class PreferenceLoss(Protocol):
    """Maps log-ratios of an anchor's candidates to one loss.

    Attributes:
        beta: Scale of the implicit rewards, β · log-ratio, that the loss ranks.
    """

    beta: float

    def __call__(
        self,
        log_ratios: Float[Tensor, "anchors candidates"],
        candidate_mask: Bool[Tensor, "anchors candidates"],
        num_chosen: Int[Tensor, " anchors"],
    ) -> Float[Tensor, " anchors"]:
        """Compute one unreduced loss for each anchor."""
