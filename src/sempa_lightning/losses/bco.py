"""BCO: chosen and rejected rewards are classified by themselves, against the mean reward of the step."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.check import check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.types import CandidateScores


def bco(
    chosen: Float[Tensor, "anchors 1"], rejected: Float[Tensor, "anchors pairs"], shift: Float[Tensor, ""]
) -> Float[Tensor, "anchors pairs"]:
    r"""Binary cross-entropy, in nats, of chosen and of rejected rewards.

    .. math:: -\log \sigma(s_w - \delta) - \log \sigma(-(s_l - \delta))

    (Jung et al. 2024, arXiv 2404.04656; :math:`\delta`, their reward shift, is half the mean reward of the chosen and
    half that of the rejected, without gradient.) Equal rewards everywhere give 2 ln 2.

    Example:
        >>> import torch
        >>> bco(torch.ones(1, 1), torch.ones(1, 1), torch.tensor(1.0))  # 2 ln 2
        tensor([[1.3863]])
    """
    return -F.logsigmoid(chosen - shift) - F.logsigmoid(shift - rejected)


@dataclass(frozen=True)
class Bco:
    """BCO over implicit rewards β · log-ratio: the mean over the pairs of the first chosen with each rejected.

    The reward shift is exact over all anchors of the optimiser step, of all micro-batches and processes, which costs a
    first pass without gradients. Other trainers keep a running mean over the batches so far, as TRL did: the same on
    the first batch. TRL's `bco_pair` of today has no shift at all: the same where policy and reference agree.

    Attributes:
        beta: Scale of the implicit rewards.
    """

    beta: float
    laws: ClassVar[frozenset[Law]] = frozenset(
        {Law.CHOSEN_LOWERS, Law.REJECTED_RAISES, Law.NEVER_NEGATIVE, Law.ORDER_FREE, Law.LENGTH_FREE}
    )

    def __post_init__(self) -> None:
        """Check the scale."""
        check_beta(self.beta)

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `bco`)."""
        pair_losses = partial(bco, shift=self.beta * scores.center)
        return mean_over_pairs(pair_losses, self.beta * scores.log_ratios, scores.rejected_mask)
