"""How all pictures are drawn."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import rc_context
from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatter


@contextmanager
def plain_text() -> Iterator[None]:
    """Draw text as it is: dollar signs start no formula, and a letter that the font lacks is no warning."""
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def plain_ticks(axis: Axis) -> None:
    """Label the ticks of a logarithmic axis by plain numbers, not by formulas."""
    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter())
