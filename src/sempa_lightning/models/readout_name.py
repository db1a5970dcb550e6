"""A name for a readout: the same for the same readout in every process."""

from collections.abc import Callable
from functools import partial

from sempa_lightning.models.readout import SentenceReadout


def readout_name(readout: SentenceReadout) -> str:
    """All that a readout consists of; functions are known by their place in the code."""
    return " + ".join(
        f"{part.template} {function_name(part.preprocess)} {part.layers} {function_name(part.pooling)} {part.attention}"
        f" {part.steering}"
        for part in readout.parts
    )


def function_name(function: Callable[..., object]) -> str:
    """A function by its place in the code, the same in every process."""
    if isinstance(function, partial):
        return f"{function_name(function.func)} {function.args} {sorted(function.keywords.items())}"
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
