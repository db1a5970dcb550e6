"""Pairs of an anchor's candidates: the first chosen with each rejected."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sempa_lightning.types import CandidateScores


def mean_over_pairs(
    pair_losses: Callable[[Tensor, Tensor], Tensor],
    rewards: Float[Tensor, "anchors candidates"],
    rejected_mask: Bool[Tensor, "anchors candidates"],
) -> Float[Tensor, " anchors"]:
    """The mean of a pair's loss over the pairs of an anchor: its first chosen with each of its rejected.

    Further chosen candidates take no part.

    Args:
        pair_losses: From rewards of chosen and of rejected candidates, which broadcast, to one loss for each pair.
        rewards: Of all candidates; absent ones may hold anything.
        rejected_mask: True where the anchor has that candidate and it is rejected.
    """
    losses = pair_losses(rewards[:, :1], rewards.where(rejected_mask, 0.0))
    return mean_over_rejected(losses, rejected_mask)


def mean_over_rejected(
    losses: Float[Tensor, "anchors candidates"], rejected_mask: Bool[Tensor, "anchors candidates"]
) -> Float[Tensor, " anchors"]:
    """The mean of what stands at an anchor's rejected candidates."""
    return losses.where(rejected_mask, 0.0).sum(-1) / rejected_mask.sum(-1)


def as_pairs(scores: CandidateScores) -> CandidateScores:
    """Each candidate with its first chosen, as an anchor of two; where it is not rejected, the chosen twice."""

    def paired(values: Tensor) -> Tensor:
        first = values[:, :1].expand_as(values)
        return torch.stack([first, values.where(scores.rejected_mask, first)], dim=-1).flatten(0, 1)

    mask = scores.candidate_mask.new_ones(scores.candidate_mask.numel(), 2)
    return CandidateScores(
        paired(scores.policy_logps),
        paired(scores.log_ratios),
        paired(scores.completion_lengths),
        mask,
        mask.sum(-1) - 1,
        scores.center,
    )
