"""APO-zero: the chosen completion is to gain likelihood and the rejected to lose it."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.check import check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores


def apo_zero(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"]
) -> Float[Tensor, "anchors pairs"]:
    r"""For data whose chosen completions are better than what the model writes.

    .. math:: 1 - \sigma(s_w) + \sigma(s_l)

    (D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7, plus 1.) Rewards of 0 give 1.

    Example:
        >>> import torch
        >>> apo_zero(torch.zeros(1, 1), torch.zeros(1, 1))
        tensor([[1.]])
    """
    return (-chosen).sigmoid() + rejected.sigmoid()


@dataclass(frozen=True)
class ApoZero:
    """APO-zero over implicit rewards β · log-ratio: the mean over the pairs of the first chosen with each rejected.

    Attributes:
        beta: Scale of the implicit rewards.
    """

    beta: float
    laws: ClassVar[frozenset[Law]] = frozenset(Law) - {Law.SHIFT_FREE, Law.REFERENCE_FREE}

    def __post_init__(self) -> None:
        """Check the scale."""
        check_beta(self.beta)

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `apo_zero`)."""
        return mean_over_pairs(apo_zero, self.beta * scores.log_ratios, scores.rejected_mask)
