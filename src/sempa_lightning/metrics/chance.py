"""Does a benchmark's score say anything, or is it what guessing gives?"""

from jaxtyping import Float
from torch import Tensor

_STANDARD_ERRORS = 3.0


def standard_error(values: Float[Tensor, " items"]) -> float:
    """Standard error of the mean of independent items, from their sample variance; infinite for a single item."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("inf")


def at_chance(values: Float[Tensor, " items"], chance: float) -> bool:
    """Whether the mean is not above what guessing gives by more than three standard errors.

    >>> import torch
    >>> at_chance(torch.tensor([1.0, 0.0, 0.0, 0.0] * 25), chance=0.25)
    True
    >>> at_chance(torch.tensor([1.0, 1.0, 0.0, 0.0] * 25), chance=0.25)
    False

    Args:
        values: An item's score, such as 1 for a right answer and 0 for a wrong one.
        chance: Mean score of guessing; 0 where answers are free text.
    """
    return float(values.mean()) <= chance + _STANDARD_ERRORS * standard_error(values)
