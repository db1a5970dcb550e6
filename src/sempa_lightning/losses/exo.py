"""EXO: the reverse KL divergence between what the policy prefers and what the labels say."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sempa_lightning.check import check, check_beta
from sempa_lightning.losses import Law
from sempa_lightning.types import CandidateScores

_HALF = 0.5


def exo(
    rewards: Float[Tensor, "anchors candidates"],
    candidate_mask: Bool[Tensor, "anchors candidates"],
    num_chosen: Int[Tensor, " anchors"],
    label_smoothing: float,
) -> Float[Tensor, " anchors"]:
    r"""Divergence, in nats, of the softmax of the rewards from smoothed labels.

    .. math:: \sum_j q_j \log \frac{q_j}{p_j}, \qquad q = \operatorname{softmax}(s)

    (Ji et al. 2024, arXiv 2402.00856, whose loss is over K completions; with two it is eq. 16.) The labels
    :math:`p` give :math:`1 - \epsilon` to the chosen and :math:`\epsilon` to the rejected, in equal shares. Equal
    rewards of two give :math:`-\ln 2 - \frac{1}{2} \ln (1 - \epsilon) - \frac{1}{2} \ln \epsilon`.

    Args:
        rewards: Of all candidates, the chosen first.
        candidate_mask: True where an anchor has that candidate.
        num_chosen: How many leading candidates are chosen.
        label_smoothing: ε, above 0: at 0 the divergence is infinite.

    Example:
        >>> import torch
        >>> exo(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), torch.tensor([1]), 1e-3)
        tensor([2.7612])
    """
    log_q = rewards.masked_fill(~candidate_mask, torch.finfo(rewards.dtype).min).log_softmax(-1)
    is_chosen = torch.arange(rewards.shape[1], device=rewards.device) < num_chosen[:, None]
    num_chosen = num_chosen[:, None].to(rewards.dtype)
    num_rejected = candidate_mask.sum(-1, keepdim=True) - num_chosen
    shares = torch.where(is_chosen, (1 - label_smoothing) / num_chosen, label_smoothing / num_rejected)
    terms = log_q.exp() * (log_q - shares.log())
    return terms.where(candidate_mask, 0.0).sum(-1)


@dataclass(frozen=True)
class Exo:
    """EXO over implicit rewards β · log-ratio, over all candidates of an anchor at once.

    Attributes:
        beta: Scale of the implicit rewards, the paper's β_π.
        label_smoothing: What the labels give to the rejected, above 0 and below 0.5; the paper uses 1e-3.
    """

    beta: float
    label_smoothing: float
    laws: ClassVar[frozenset[Law]] = frozenset(
        {Law.NEVER_NEGATIVE, Law.SHIFT_FREE, Law.ORDER_FREE, Law.LENGTH_FREE, Law.STEP_FREE}
    )

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_beta(self.beta)
        check("loss.label_smoothing", self.label_smoothing, lambda share: 0 < share < _HALF, "above 0 and below 0.5")

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `exo`)."""
        rewards = self.beta * scores.log_ratios
        return exo(rewards, scores.candidate_mask, scores.num_chosen, self.label_smoothing)
