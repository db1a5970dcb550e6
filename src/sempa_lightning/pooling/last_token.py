"""The state of the last real token (PromptEOL, SemPA)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def last_token(
    hidden_states: Float[Tensor, "sequences tokens hidden"], attention_mask: Bool[Tensor, "sequences tokens"]
) -> Float[Tensor, "sequences hidden"]:
    """Take the hidden state of each sequence's last real token, whichever side is padded."""
    position = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (position * attention_mask).argmax(-1)
    return hidden_states[torch.arange(len(last), device=last.device), last]
