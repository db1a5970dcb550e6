"""From hidden states to one vector for each sequence."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class Pooling(Protocol):
    """Maps hidden states to embeddings; padding, on either side, must not matter."""

    def __call__(
        self,
        hidden_states: Float[Tensor, "sequences tokens hidden"],
        attention_mask: Bool[Tensor, "sequences tokens"],
    ) -> Float[Tensor, "sequences hidden"]:
        """Pool the real tokens."""
