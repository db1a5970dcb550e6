"""From hidden states to one vector for each sequence."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sempa_lightning.types import TokenStates


@runtime_checkable
class Pooling(Protocol):
    """Maps hidden states to embeddings, in float32 at least; padding, on either side, must not matter."""

    def __call__(self, states: TokenStates) -> Float[Tensor, "sequences width"]:
        """Pool each sequence's tokens."""


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or in float64 where they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def average(
    hidden: Float[Tensor, "sequences tokens hidden"], weights: Float[Tensor, "sequences tokens"]
) -> Float[Tensor, "sequences hidden"]:
    """Weighted mean over tokens, in float32 at least; tokens of weight 0 are left out, whatever they hold."""
    kept = at_least_float32(hidden).masked_fill((weights == 0)[..., None], 0)
    return (kept * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
