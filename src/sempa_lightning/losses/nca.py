"""NCA: each reward is classified by itself, so that the chosen does not lose likelihood with the rejected."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.check import check_beta
from sempa_lightning.losses import Law
from sempa_lightning.types import CandidateScores


def nca(
    rewards: Float[Tensor, "anchors candidates"],
    candidate_mask: Bool[Tensor, "anchors candidates"],
    num_chosen: Int[Tensor, " anchors"],
) -> Float[Tensor, " anchors"]:
    r"""Cross-entropy, in nats, of telling what was chosen from all that were at hand.

    .. math:: -\log \sigma(s_w) - \frac{1}{K} \sum_{j=1}^{K} \log \sigma(-s_j)

    (Chen et al. 2024, arXiv 2402.05369: the loss over K completions, for rewards of the data that are all or
    nothing; several chosen share the first term in equal parts.) Rewards of 0 give 2 ln 2, whatever K.

    Args:
        rewards: Of all candidates, the chosen first; absent ones may hold anything.
        candidate_mask: True where an anchor has that candidate.
        num_chosen: How many leading candidates are chosen.

    Example:
        >>> import torch
        >>> nca(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), torch.tensor([1]))  # 2 ln 2
        tensor([1.3863])
    """
    is_chosen = torch.arange(rewards.shape[1], device=rewards.device) < num_chosen[:, None]
    rewards = rewards.where(candidate_mask, 0.0)
    kept = -F.logsigmoid(rewards).where(is_chosen, 0.0).sum(-1) / num_chosen
    return kept - F.logsigmoid(-rewards).where(candidate_mask, 0.0).sum(-1) / candidate_mask.sum(-1)


@dataclass(frozen=True)
class Nca:
    """NCA over implicit rewards β · log-ratio, over all candidates of an anchor at once.

    Attributes:
        beta: Scale of the implicit rewards.
    """

    beta: float
    laws: ClassVar[frozenset[Law]] = frozenset(
        {Law.REJECTED_RAISES, Law.NEVER_NEGATIVE, Law.ORDER_FREE, Law.LENGTH_FREE, Law.STEP_FREE}
    )

    def __post_init__(self) -> None:
        """Check the scale."""
        check_beta(self.beta)

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `nca`)."""
        return nca(self.beta * scores.log_ratios, scores.candidate_mask, scores.num_chosen)
