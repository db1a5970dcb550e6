"""SimPO: Plackett-Luce over log-probabilities per token, with a margin and without a reference."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.check import check, check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.plackett_luce import plackett_luce
from sempa_lightning.types import CandidateScores


@dataclass(frozen=True)
class SimPo:
    r"""SimPO, the chosen candidates first among all; with one rejected it is the paper's loss.

    .. math:: -\log \sigma \Big( \frac{\beta}{|y_w|} \log \pi(y_w) - \frac{\beta}{|y_l|} \log \pi(y_l) - \gamma \Big)

    (Meng et al. 2024, arXiv 2405.14734, eq. 6.) With more candidates it is the top-1 Plackett-Luce loss of the same
    scores, the rejected ones raised by :math:`\gamma`. Equal log-probabilities per token of K candidates, one of them
    chosen, give :math:`\ln (1 + (K - 1) e^{\gamma})`.

    Attributes:
        beta: Scale of the log-probabilities per token; the paper uses 2 to 2.5.
        gamma: The margin, at least 0, by which the chosen is to be ahead; the paper uses 0.3 to 1.6.
    """

    beta: float
    gamma: float
    laws: ClassVar[frozenset[Law]] = frozenset(Law) - {Law.SHIFT_FREE, Law.LENGTH_FREE}

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_beta(self.beta)
        check("loss.gamma", self.gamma, lambda gamma: 0 <= gamma < float("inf"), "at least 0")

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `plackett_luce`)."""
        rewards = self.beta * scores.per_token(scores.policy_logps)
        return plackett_luce(rewards + self.gamma * scores.rejected_mask, scores.candidate_mask, scores.num_chosen)
