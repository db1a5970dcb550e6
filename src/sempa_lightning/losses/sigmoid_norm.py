"""The sigmoid loss with rewards per token: length-normalised DPO."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.check import check_beta
from sempa_lightning.losses import Law
from sempa_lightning.losses.pairs import mean_over_pairs
from sempa_lightning.losses.sigmoid import sigmoid
from sempa_lightning.types import CandidateScores


@dataclass(frozen=True)
class SigmoidNorm:
    r"""DPO over log-ratios per token: the mean over the pairs of the first chosen with each rejected.

    .. math:: -\log \sigma \Big( \frac{\beta}{|y_w|} r_w - \frac{\beta}{|y_l|} r_l \Big)

    (Tülu 3, Lambert et al. 2024, arXiv 2411.15124.) Equal log-ratios of 0 give ln 2.

    Attributes:
        beta: Scale of the log-ratios per token; Tülu 3 uses 5.
    """

    beta: float
    laws: ClassVar[frozenset[Law]] = frozenset(
        {Law.CHOSEN_LOWERS, Law.REJECTED_RAISES, Law.NEVER_NEGATIVE, Law.ORDER_FREE, Law.STEP_FREE}
    )

    def __post_init__(self) -> None:
        """Check the scale."""
        check_beta(self.beta)

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `sigmoid`)."""
        return mean_over_pairs(sigmoid, self.beta * scores.per_token(scores.log_ratios), scores.rejected_mask)
