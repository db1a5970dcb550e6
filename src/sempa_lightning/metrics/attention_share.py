"""Where attention goes: how much of it each part of a prompt receives.

`texts` is what is drawn independently, `parts` the parts of a prompt, the first of them the begin of the sequence.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

Masses = Float[Tensor, "texts layers parts"]
Counts = Float[Tensor, "texts parts"]
Table = Float[Tensor, "layers parts"]


def part_masses(
    attention: Float[Tensor, "layers tokens"], parts: Int[Tensor, " tokens"], num_parts: int
) -> Float[Tensor, "layers {num_parts}"]:
    """Attention that each part receives, summed over its tokens.

    Args:
        attention: What one token pays to each token, at every layer.
        parts: Part of each token.
        num_parts: How many parts there are, empty ones included.
    """
    masses = attention.new_zeros(len(attention), num_parts)
    return masses.index_add_(1, parts, attention)


def shares(masses: Masses) -> Table:
    """Mean over texts of each part's share of all attention."""
    return masses.mean(0)


def shares_of_rest(masses: Masses) -> Table:
    """Each part's share of what does not go to the begin of the sequence; 0 for the begin itself.

    The begin takes up attention that has nowhere to go (an attention sink, Xiao et al. 2024), more or less of it from
    model to model. Ratio of means, so that a text with almost nothing left does not count as much as any other.
    """
    means = masses.mean(0)
    rest = means[:, 1:]
    return torch.cat([torch.zeros_like(means[:, :1]), rest / rest.sum(-1, keepdim=True)], dim=-1)


def per_token(masses: Masses, counts: Counts) -> Table:
    """Attention that one token of a part receives: all texts' attention to it, divided by all its tokens.

    0 for a part that no text has.
    """
    return masses.sum(0) / counts.sum(0).clamp(min=1)
