"""A mean in which later tokens, which have seen more, count more."""

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.pooling import average
from sempa_lightning.types import TokenStates


def position_weighted_mean(states: TokenStates) -> Float[Tensor, "sequences hidden"]:
    """Weigh the i-th of a sequence's n real tokens by i / (1 + … + n) (SGPT, Muennighoff 2022, section 3.1.1)."""
    # By place among the real tokens, not by column: padding on the left must not matter.
    return average(states.hidden, (states.mask.cumsum(1) * states.mask).float())
