"""The sigmoid loss: DPO, and with label smoothing conservative DPO."""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.check import check_beta, check_label_smoothing
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores

_MONOTONE = frozenset({Law.CHOSEN_LOWERS, Law.REJECTED_RAISES})


def sigmoid(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"], label_smoothing: float = 0.0
) -> Float[Tensor, "anchors pairs"]:
    r"""Cross-entropy, in nats, of the preference that the rewards imply, with a share of the labels exchanged.

    .. math:: -(1 - \epsilon) \log \sigma(s_w - s_l) - \epsilon \log \sigma(s_l - s_w)

    (DPO, Rafailov et al. 2023, eq. 7; with :math:`\epsilon > 0` conservative DPO, Mitchell 2023,
    https://ericmitchell.ai/cdpo.pdf.) Equal rewards give ln 2, whatever the smoothing; with it the loss is least at a
    finite margin, where :math:`\sigma(s_w - s_l) = 1 - \epsilon`.

    Example:
        >>> import torch
        >>> sigmoid(torch.zeros(1, 1), torch.zeros(1, 1), 0.1)  # ln 2
        tensor([[0.6931]])
    """
    margins = chosen - rejected
    return -(1 - label_smoothing) * F.logsigmoid(margins) - label_smoothing * F.logsigmoid(-margins)


@dataclass(frozen=True)
class Sigmoid:
    """DPO over implicit rewards β · log-ratio: the mean over the pairs of the first chosen with each rejected.

    Attributes:
        beta: Scale of the implicit rewards.
        label_smoothing: The share of pairs, 0 to below 0.5, whose labels are taken to be exchanged.
    """

    beta: float
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_beta(self.beta)
        check_label_smoothing(self.label_smoothing)

    @property
    def laws(self) -> frozenset[Law]:
        """Monotone unless labels are smoothed."""
        always = frozenset({Law.NEVER_NEGATIVE, Law.SHIFT_FREE, Law.ORDER_FREE, Law.LENGTH_FREE, Law.STEP_FREE})
        return always if self.label_smoothing else always | _MONOTONE

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `sigmoid`)."""
        pair_losses = partial(sigmoid, label_smoothing=self.label_smoothing)
        return mean_over_pairs(pair_losses, self.beta * scores.log_ratios, scores.rejected_mask)
