"""The hinge loss: SLiC with implicit rewards."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.check import check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores


def hinge(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"]
) -> Float[Tensor, "anchors pairs"]:
    r"""By how much the margin of the rewards falls short of 1.

    .. math:: \max(0, 1 - (s_w - s_l))

    (SLiC, Zhao et al. 2022, with the implicit rewards of DPO as RSO has it, Liu et al. 2023, arXiv 2309.06657.) Equal
    rewards give 1.

    Example:
        >>> import torch
        >>> hinge(torch.zeros(1, 1), torch.zeros(1, 1))
        tensor([[1.]])
    """
    return (1 - (chosen - rejected)).relu()


@dataclass(frozen=True)
class Hinge:
    """SLiC over implicit rewards β · log-ratio: the mean over the pairs of the first chosen with each rejected.

    Attributes:
        beta: Scale of the implicit rewards; a log-ratio that is 1/β ahead costs nothing.
    """

    beta: float
    laws: ClassVar[frozenset[Law]] = frozenset(Law) - {Law.REFERENCE_FREE}

    def __post_init__(self) -> None:
        """Check the scale."""
        check_beta(self.beta)

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `hinge`)."""
        return mean_over_pairs(hinge, self.beta * scores.log_ratios, scores.rejected_mask)
