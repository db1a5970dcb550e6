"""How clearly a policy prefers the chosen candidates."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def first_beats_rest(
    values: Float[Tensor, "anchors candidates"], candidate_mask: Bool[Tensor, "anchors candidates"]
) -> Bool[Tensor, " anchors"]:
    """Whether candidate 0 has strictly the highest value of its anchor."""
    rest = values.masked_fill(~candidate_mask, -torch.inf)[:, 1:].amax(-1)
    return values[:, 0] > rest


def rejected_mean(
    values: Float[Tensor, "anchors candidates"], rejected_mask: Bool[Tensor, "anchors candidates"]
) -> Float[Tensor, " anchors"]:
    """Mean value of each anchor's rejected candidates."""
    return (values * rejected_mask).sum(-1) / rejected_mask.sum(-1)
