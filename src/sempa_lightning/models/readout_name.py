"""A name for a readout: the same for the same readout in every process."""

from collections.abc import Callable
from functools import partial

from sempa_lightning.models.readout import SentenceReadout


def readout_name(readout: SentenceReadout) -> str:
    """All that a readout consists of; functions are known by their place in the code."""
    return " + ".join(
        f"{part.template} {_function(part.preprocess)} {part.layers} {_function(part.pooling)} {part.attention}"
        f" {part.steering}"
        for part in readout.parts
    )


def _function(function: Callable[..., object]) -> str:
    if isinstance(function, partial):
        return f"{_function(function.func)} {function.args} {sorted(function.keywords.items())}"
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
