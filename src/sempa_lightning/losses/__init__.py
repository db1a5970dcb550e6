"""Preference losses: each file holds one idea, as a pure function and a thin class that keeps its parameters."""

from enum import Enum
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.types import CandidateScores


class Law(Enum):
    """What may be true of a loss.

    A candidate's score is its log-ratio, or where the loss takes no reference, the policy's log-probability.
    """

    CHOSEN_LOWERS = "a higher score of the first chosen never raises the loss"
    REJECTED_RAISES = "a higher score of a rejected candidate never lowers the loss"
    NEVER_NEGATIVE = "the loss is never below 0"
    SHIFT_FREE = "a constant added to the scores of all candidates changes nothing"
    ORDER_FREE = "the order of the rejected changes nothing"
    LENGTH_FREE = "the lengths of the completions change nothing"
    STEP_FREE = "the other rows of the step change nothing"
    REFERENCE_FREE = "the reference changes nothing"


@runtime_checkable
class PreferenceLoss(Protocol):
    """Maps the scores of an anchor's candidates to one loss.

    Every loss is finite with finite gradients as long as the log-ratios are of ordinary size (±1e4 / β), and neither
    what stands at absent candidates nor how many there are changes anything.
    """

    @property
    def beta(self) -> float:
        """Scale of the implicit rewards that are logged: of log-ratios, or without reference of log-probs per token."""

    @property
    def laws(self) -> frozenset[Law]:
        """What is true of it.

        Without `STEP_FREE` the objective makes a first pass over the step, without `REFERENCE_FREE` it scores the
        reference, and without `SHIFT_FREE` no divergence but the reverse KL fits.
        """

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute one unreduced loss for each anchor."""
