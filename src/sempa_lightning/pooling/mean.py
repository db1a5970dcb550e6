"""The mean over all real tokens."""

from jaxtyping import Bool, Float
from torch import Tensor


def mean(
    hidden_states: Float[Tensor, "sequences tokens hidden"], attention_mask: Bool[Tensor, "sequences tokens"]
) -> Float[Tensor, "sequences hidden"]:
    """Average the hidden states of each sequence's real tokens."""
    total = hidden_states.masked_fill(~attention_mask[..., None], 0).sum(1)
    count = attention_mask.sum(1, keepdim=True)  # an integer: bfloat16 would round counts above 256
    return total / count
