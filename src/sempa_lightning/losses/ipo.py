"""IPO: margins of log-ratios are drawn to a target instead of being pushed apart."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.check import check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores


def ipo(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"], beta: float
) -> Float[Tensor, "anchors pairs"]:
    r"""Squared distance of the margin of log-ratios from its target.

    .. math:: \Big( r_w - r_l - \frac{1}{2 \beta} \Big)^2

    (Azar et al. 2023, arXiv 2310.12036, eq. 17, whose :math:`\tau` is :math:`\beta`.) Equal log-ratios give
    :math:`1 / (4 \beta^2)`.

    Example:
        >>> import torch
        >>> ipo(torch.zeros(1, 1), torch.zeros(1, 1), 0.1)
        tensor([[25.]])
    """
    return (chosen - rejected - 1 / (2 * beta)) ** 2


@dataclass(frozen=True)
class Ipo:
    """IPO over log-ratios per token: the mean over the pairs of the first chosen with each rejected.

    The paper writes sums over tokens, its experiments and TRL average, so that the target does not depend on the
    length of a completion.

    Attributes:
        beta: The margin aimed at is 1/(2β), in nats per token.
    """

    beta: float
    laws: ClassVar[frozenset[Law]] = frozenset({Law.NEVER_NEGATIVE, Law.ORDER_FREE, Law.STEP_FREE})

    def __post_init__(self) -> None:
        """Check the scale."""
        check_beta(self.beta)

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `ipo`)."""
        return mean_over_pairs(partial(ipo, beta=self.beta), scores.per_token(scores.log_ratios), scores.rejected_mask)
