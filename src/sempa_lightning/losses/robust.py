"""Robust DPO: an unbiased estimate of the DPO loss from labels of which a known share is exchanged."""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.check import check_beta, check_label_smoothing
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores

_ALWAYS = frozenset(
    {Law.CHOSEN_LOWERS, Law.REJECTED_RAISES, Law.SHIFT_FREE, Law.ORDER_FREE, Law.LENGTH_FREE, Law.STEP_FREE}
)


def robust(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"], label_smoothing: float
) -> Float[Tensor, "anchors pairs"]:
    r"""The DPO loss, corrected so that its mean over exchanged labels is that over right ones.

    .. math:: \frac{-(1 - \epsilon) \log \sigma(s_w - s_l) + \epsilon \log \sigma(s_l - s_w)}{1 - 2 \epsilon}

    (rDPO, Chowdhury et al. 2024, arXiv 2403.00409.) Equal rewards give ln 2. It has no lower bound for
    :math:`\epsilon > 0`: it falls by :math:`\epsilon / (1 - 2 \epsilon)` for each unit of margin in the end.

    Example:
        >>> import torch
        >>> robust(torch.zeros(1, 1), torch.zeros(1, 1), 0.1)  # ln 2
        tensor([[0.6931]])
    """
    margins = chosen - rejected
    losses = -(1 - label_smoothing) * F.logsigmoid(margins) + label_smoothing * F.logsigmoid(-margins)
    return losses / (1 - 2 * label_smoothing)


@dataclass(frozen=True)
class Robust:
    """Robust DPO over implicit rewards β · log-ratio: the mean over the pairs of the first chosen with each rejected.

    Attributes:
        beta: Scale of the implicit rewards.
        label_smoothing: The share of pairs, 0 to below 0.5, whose labels are exchanged; 0 is DPO.
    """

    beta: float
    label_smoothing: float

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_beta(self.beta)
        check_label_smoothing(self.label_smoothing)

    @property
    def laws(self) -> frozenset[Law]:
        """Negative only where labels are exchanged."""
        return _ALWAYS if self.label_smoothing else _ALWAYS | {Law.NEVER_NEGATIVE}

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `robust`)."""
        pair_losses = partial(robust, label_smoothing=self.label_smoothing)
        return mean_over_pairs(pair_losses, self.beta * scores.log_ratios, scores.rejected_mask)
