"""The Plackett-Luce loss: the likelihood of a ranking, of which DPO is the case of two candidates."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sempa_lightning.check import check_beta
from sempa_lightning.errors import UserError
from sempa_lightning.losses import Law
from sempa_lightning.types import CandidateScores

_FULL = frozenset({Law.CHOSEN_LOWERS, Law.NEVER_NEGATIVE, Law.SHIFT_FREE, Law.LENGTH_FREE, Law.STEP_FREE})


def plackett_luce(
    scores: Float[Tensor, "anchors candidates"],
    candidate_mask: Bool[Tensor, "anchors candidates"],
    num_factors: Int[Tensor, " anchors"],
) -> Float[Tensor, " anchors"]:
    r"""Negative log-likelihood, in nats, of the first factors of a ranking.

    .. math:: -\sum_{k=1}^{m} \Big[ s_k - \log \sum_{j \ge k} e^{s_j} \Big]

    (SemPA, eq. 5-6.) Candidates stand best first; :math:`m` factors are kept. With :math:`m = 1` it is the
    top-1 form, which does not depend on the order of the others; with two candidates and scores β · log-ratio it
    is the DPO loss (SemPA, eq. 2-3). Equal scores give ln K for the top-1 form and ln K! for a full ranking of K
    candidates.

    Finite with exact gradients as long as the dtype holds the scores' differences: every factor is a
    log-sum-exp. What stands at absent candidates, even infinity or NaN, changes nothing; the gradient there
    is exactly 0.

    Args:
        scores: The candidates' scores, best candidate first.
        candidate_mask: True where an anchor has that candidate; live candidates come before absent ones.
        num_factors: How many factors to keep, at most the number of candidates.

    Example:
        >>> import torch
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> plackett_luce(torch.zeros(1, 3), mask, torch.tensor([1])).item()  # ln 3
        1.0986...
        >>> plackett_luce(torch.zeros(1, 3), mask, torch.tensor([3])).item()  # ln 3!
        1.7917...
    """
    candidates = scores.shape[1]
    rank = torch.arange(candidates, device=scores.device)
    # remaining[k, j]: candidate j is not yet ranked when the k-th factor is taken.
    remaining = (rank[None, :] >= rank[:, None]) & candidate_mask[:, None, :]
    # Differences first: what all candidates have in common cancels exactly, however large it is.
    gaps = (scores[:, None, :] - scores[:, :, None]).masked_fill(~remaining, torch.finfo(scores.dtype).min)
    kept = (rank < num_factors[:, None]) & candidate_mask
    return torch.where(kept, gaps.logsumexp(-1), 0.0).sum(-1)


@dataclass(frozen=True)
class PlackettLuce:
    """Plackett-Luce over implicit rewards β · log-ratio, over all candidates of an anchor at once.

    Attributes:
        beta: Scale of the implicit rewards; the paper's run used 0.1.
        ranking: `top` keeps one factor for each chosen candidate; `full` takes the rejected as ranked, too, in
            the order in which they are given.
    """

    beta: float
    ranking: Literal["top", "full"] = "top"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_beta(self.beta)
        if self.ranking not in ("top", "full"):
            raise UserError(f"loss.ranking={self.ranking} is neither top nor full")

    @property
    def laws(self) -> frozenset[Law]:
        """A full ranking may like one rejected above another."""
        return _FULL if self.ranking == "full" else _FULL | {Law.REJECTED_RAISES, Law.ORDER_FREE}

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `plackett_luce`)."""
        num_factors = scores.num_chosen if self.ranking == "top" else scores.candidate_mask.sum(-1)
        return plackett_luce(self.beta * scores.log_ratios, scores.candidate_mask, num_factors)
