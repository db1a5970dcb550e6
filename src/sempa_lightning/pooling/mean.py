"""The mean over all real tokens."""

from jaxtyping import Bool, Float
from torch import Tensor


def mean(
    hidden_states: Float[Tensor, "sequences tokens hidden"], attention_mask: Bool[Tensor, "sequences tokens"]
) -> Float[Tensor, "sequences hidden"]:
    """Average the hidden states of each sequence's real tokens."""
    weights = attention_mask[..., None].to(hidden_states.dtype)
    return (hidden_states * weights).sum(1) / weights.sum(1)
