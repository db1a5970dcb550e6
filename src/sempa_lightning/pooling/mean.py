"""The mean over all real tokens."""

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.pooling import average
from sempa_lightning.types import TokenStates


def mean(states: TokenStates) -> Float[Tensor, "sequences hidden"]:
    """Average the hidden states of each sequence's real tokens, those of the prompt included."""
    return average(states.hidden, states.mask.float())
