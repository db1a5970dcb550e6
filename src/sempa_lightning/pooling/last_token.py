"""The state of the last real token (PromptEOL, SemPA)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sempa_lightning.pooling import at_least_float32
from sempa_lightning.types import TokenStates


def last_token(states: TokenStates) -> Float[Tensor, "sequences hidden"]:
    """Take the hidden state of each sequence's last real token, whichever side is padded."""
    position = torch.arange(states.mask.shape[1], device=states.mask.device)
    last = (position * states.mask).argmax(-1)
    return at_least_float32(states.hidden[torch.arange(len(last), device=last.device), last])
