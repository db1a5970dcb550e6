"""SPPO: log-ratios are drawn to the winning and to the losing end."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.check import check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores


def sppo(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"], beta: float
) -> Float[Tensor, "anchors pairs"]:
    r"""Squared distances of log-ratios from where a sure win and a sure defeat put them.

    .. math:: \Big( r_w - \frac{1}{2 \beta} \Big)^2 + \Big( r_l + \frac{1}{2 \beta} \Big)^2

    (Wu et al. 2024, arXiv 2405.00675, eq. 4.7 with :math:`\eta = 1 / \beta` and probabilities of winning of 1 and 0.)
    Log-ratios of 0 give :math:`1 / (2 \beta^2)`.

    Example:
        >>> import torch
        >>> sppo(torch.zeros(1, 1), torch.zeros(1, 1), 0.1)
        tensor([[50.]])
    """
    return (chosen - 1 / (2 * beta)) ** 2 + (rejected + 1 / (2 * beta)) ** 2


@dataclass(frozen=True)
class Sppo:
    """Hard-label SPPO over log-ratios: the mean over the pairs of the first chosen with each rejected.

    Attributes:
        beta: Chosen log-ratios are drawn to 1/(2β), rejected ones to -1/(2β), in nats; the paper's 1/β is 1000.
    """

    beta: float
    laws: ClassVar[frozenset[Law]] = frozenset({Law.NEVER_NEGATIVE, Law.ORDER_FREE, Law.LENGTH_FREE, Law.STEP_FREE})

    def __post_init__(self) -> None:
        """Check the scale."""
        check_beta(self.beta)

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `sppo`)."""
        return mean_over_pairs(partial(sppo, beta=self.beta), scores.log_ratios, scores.rejected_mask)
