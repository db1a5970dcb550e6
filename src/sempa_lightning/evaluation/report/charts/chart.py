"""A picture of a report, and the look that all of them share."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from sempa_lightning.escape import for_terminal
from sempa_lightning.evaluation.drawing import plain_text

# Okabe and Ito's colours, apart for every kind of colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
GREY, GRID = "#6b7280", "#e5e7eb"
# Inches, and letters of a name beside an axis.
WIDTH, LONGEST = 4.6, 24
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,  # "0.5" and, in a corner, "+8.268e3" would be read as 0.5
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "legend.frameon": False,
    "svg.hashsalt": "sempa_lightning",
}


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        title: Its heading.
        svg: What is drawn.
        caption: What the drawing does not say itself.
        wide: Whether it wants more than half the page.
    """

    title: str
    svg: str
    caption: str
    wide: bool


@dataclass(frozen=True)
class Gallery:
    """Pictures under a heading.

    Attributes:
        title: The heading.
        charts: The pictures.
        legend: Names with the colours that they have in all of them.
        note: What holds for all of them.
    """

    title: str
    charts: tuple[Chart, ...]
    legend: tuple[tuple[str, str], ...] = ()
    note: str = ""


def drawn(title: str, draw: Callable[[], Figure], caption: str = "") -> Chart:
    """Draw in the report's style; the same content gives the same bytes."""
    with plain_text(), rc_context(_STYLE):
        figure, svg = draw(), io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Chart(title, for_terminal(svg.getvalue()), caption, bool(figure.get_figwidth() > WIDTH))
