"""The mean over the sentence's own tokens."""

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.pooling import average
from sempa_lightning.types import TokenStates


def text_mean(states: TokenStates) -> Float[Tensor, "sequences hidden"]:
    """Average over the tokens of the sentence, without prompt and begin token (Echo; LLM2Vec's instructions)."""
    return average(states.hidden, states.text_mask.float())
