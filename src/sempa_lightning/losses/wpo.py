"""WPO: pairs that the policy itself would hardly write count less."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.errors import UserError
from sempa_lightning.losses import Law, PreferenceLoss
from sempa_lightning.losses.pairs import as_pairs, mean_over_rejected
from sempa_lightning.types import CandidateScores

_MONOTONE = frozenset({Law.CHOSEN_LOWERS, Law.REJECTED_RAISES})


def wpo_weights(mean_logps: Float[Tensor, "pairs 2"]) -> Float[Tensor, " pairs"]:
    r"""How likely the policy is to write both completions of a pair: geometric means over tokens, without gradient.

    .. math:: \prod_{y \in \{y_w, y_l\}} \exp \Big( \frac{1}{|y|} \sum_t \log \pi(y_t) \Big)

    (Zhou et al. 2024, arXiv 2406.11827.)

    Args:
        mean_logps: Log-probability per token of chosen and rejected, in nats.

    Example:
        >>> import torch
        >>> wpo_weights(torch.tensor([[0.5, 0.25]]).log())
        tensor([0.1250])
    """
    return mean_logps.detach().sum(-1).exp()


@dataclass(frozen=True)
class Wpo:
    """Another loss, weighted: the mean over the pairs of the first chosen with each rejected.

    The other loss sees each pair by itself, so over more than two candidates it becomes its mean over pairs. The
    weights are those that the paper starts from. It goes on to align them, and so does TRL: each token's
    probability is divided by Σ_v π(v)² over the vocabulary, which makes them larger.

    Attributes:
        beta: Scale of the implicit rewards, that of what is weighted.
        loss: What is weighted.

    Raises:
        UserError: If the two scales differ.
    """

    beta: float
    loss: PreferenceLoss

    def __post_init__(self) -> None:
        """Check the scale."""
        if self.beta != self.loss.beta:
            raise UserError(f"loss.beta={self.beta}, but loss.loss.beta={self.loss.beta}: set loss.beta alone")

    @property
    def laws(self) -> frozenset[Law]:
        """Those of what is weighted; but weights depend on lengths, and on scores that are the policy's alone."""
        by_score = _MONOTONE if Law.REFERENCE_FREE in self.loss.laws else frozenset()
        return self.loss.laws - {Law.LENGTH_FREE} - by_score

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor."""
        pairs = as_pairs(scores)
        losses = self.loss(pairs) * wpo_weights(pairs.per_token(pairs.policy_logps))
        return mean_over_rejected(losses.view(scores.candidate_mask.shape), scores.rejected_mask)
