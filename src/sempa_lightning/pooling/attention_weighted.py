"""The sentence's tokens, each as much as the last token looks at it."""

import torch
from jaxtyping import Float
from torch import Tensor

from sempa_lightning.errors import UserError
from sempa_lightning.pooling import average
from sempa_lightning.types import TokenStates


def attention_weighted(states: TokenStates) -> Float[Tensor, "sequences hidden"]:
    """Weigh the sentence's tokens by the last token's attention to them.

    Attention to the prompt and to the begin token, which takes up most of it, is left out, and the rest adds up to 1.

    Raises:
        UserError: If the readout has not asked for attention.
    """
    if states.attention is None:
        raise UserError("attention_weighted needs to know where the model looks: set readout.attention=true")
    # Not zero in all tokens at once, where half precision has rounded all of them down.
    weights = states.attention.float().clamp_min(torch.finfo(torch.float32).tiny)
    return average(states.hidden, weights.masked_fill(~states.text_mask, 0))
