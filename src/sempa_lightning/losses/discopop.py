"""DiscoPOP: a loss that a language model found, between the logistic and the exponential one."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.check import check, check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores


def discopop(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"], tau: float
) -> Float[Tensor, "anchors pairs"]:
    r"""The logistic loss where the margin is below 0, and the exponential one above.

    .. math:: -(1 - \sigma(m / \tau)) \log \sigma(m) + \sigma(m / \tau) e^{-m}, \qquad m = s_w - s_l

    (Lu et al. 2024, arXiv 2406.08414, eq. 5.) Equal rewards give (1 + ln 2) / 2. The second term is computed as one
    exponential, so that it stays finite where a large one meets a small weight.

    Example:
        >>> import torch
        >>> discopop(torch.zeros(1, 1), torch.zeros(1, 1), 0.05)
        tensor([[0.8466]])
    """
    margins = chosen - rejected
    logistic = -F.logsigmoid(margins) * (-margins / tau).sigmoid()
    return logistic + torch.exp(F.logsigmoid(margins / tau) - margins)


@dataclass(frozen=True)
class Discopop:
    """DiscoPOP over implicit rewards β · log-ratio: the mean over the pairs of the first chosen with each rejected.

    Attributes:
        beta: Scale of the implicit rewards.
        tau: Width of the passage from one loss to the other, in units of the margin, above 0 and at most 1: beyond, the
            loss grows exponentially with a wrong margin. The paper uses 0.05.
    """

    beta: float
    tau: float
    laws: ClassVar[frozenset[Law]] = frozenset(
        {Law.NEVER_NEGATIVE, Law.SHIFT_FREE, Law.ORDER_FREE, Law.LENGTH_FREE, Law.STEP_FREE}
    )

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_beta(self.beta)
        check("loss.tau", self.tau, lambda tau: 0 < tau <= 1, "above 0 and at most 1")

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `discopop`)."""
        return mean_over_pairs(partial(discopop, tau=self.tau), self.beta * scores.log_ratios, scores.rejected_mask)
