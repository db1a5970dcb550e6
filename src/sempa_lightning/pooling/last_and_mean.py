"""The last token beside the mean over all (Roth et al.'s `concat`)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.types import TokenStates


def last_and_mean(states: TokenStates) -> Float[Tensor, "sequences width"]:
    """Put the last token's state before the mean: twice as wide as a hidden state."""
    return torch.cat([last_token(states), mean(states)], dim=1)
