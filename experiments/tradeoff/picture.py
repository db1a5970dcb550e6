"""Embeddings against generation: a point for each row, a dot for each of its seeds, and the Pareto front."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from sempa_lightning.evaluation.report.charts.trade import pareto
from sempa_lightning.files import replacing

Point = tuple[float, float]

_BASE, _FRONT, _BEATEN, _GREY = "#000000", "#0072b2", "#d55e00", "#9ca3af"
_STYLE = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
# Where a name may stand, in points from its point: close by, or farther away with a line between them.
_NEAR = [place for place in product((7, -7, 0), (6, -6, 0)) if any(place)]
_FAR = [place for place in product((28, -28, 0), (24, -24, 0)) if any(place)]
_OFFSETS = [*_NEAR, *_FAR]
# Perplexities that differ by more than this are compared on a logarithmic axis.
_WIDE = 2.0


def draw(points: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw the seeds of each row and their mean.

    Args:
        points: By row, the base first, of each seed perplexity against the base's (less is better) and STS (more is).
        path: The PNG file to write.
    """
    means = {name: mean(seeds) for name, seeds in points.items()}
    unbeaten = front(means)
    with rc_context(_STYLE), replacing(path) as temporary:
        figure = Figure(figsize=(8, 5), layout="constrained")
        axis = figure.subplots()
        axis.plot(*zip(*(means[name] for name in unbeaten), strict=True), "--", color=_GREY, linewidth=1.2, zorder=1)
        for name, middle in means.items():
            colour = _BASE if name == next(iter(means)) else _FRONT if name in unbeaten else _BEATEN
            for seed in points[name] if len(points[name]) > 1 else ():
                axis.plot(*zip(middle, seed, strict=True), color=colour, linewidth=0.6, alpha=0.5)
                axis.plot(*seed, "o", color=colour, markersize=3.5, alpha=0.7)
            axis.plot(*middle, "o", color=colour, markersize=8, markeredgecolor="white")
        across = [x for seeds in points.values() for x, _ in seeds]
        if max(across) > _WIDE * min(across):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 7)))
            axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.margins(0.12)
        axis.invert_xaxis()
        axis.grid(color="#e5e7eb")
        axis.set_xlabel("perplexity, multiple of the base's (right is better)")
        axis.set_ylabel("STS, average of 7, Spearman × 100")
        _name(axis, means, [seed for seeds in points.values() for seed in seeds])
        figure.savefig(temporary, format="png", dpi=150)


def front(means: Mapping[str, Point]) -> list[str]:
    """The rows that no other beats on both sides, the one that keeps least of the perplexity first."""
    places = pareto([(-x, y) for x, y in means.values()])
    return [name for place in places for name, (x, y) in means.items() if (-x, y) == place]


def mean(points: Sequence[Point]) -> Point:
    """The point in the middle."""
    return statistics.fmean(x for x, _ in points), statistics.fmean(y for _, y in points)


def _name(axis: Axes, means: Mapping[str, Point], dots: Sequence[Point]) -> None:
    """Write each name near its point, where it covers least of other names and of dots."""
    axis.figure.draw_without_rendering()
    frame, names = axis.get_window_extent(), list[Bbox]()
    marks = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axis.transData.transform([*means.values(), *dots])]
    for name, point in means.items():
        places = [_place(axis, name, point, *offset) for offset in _OFFSETS]
        boxes = [place.get_window_extent() for place in places]
        outside = [_area(box, [box]) - _area(box, [frame]) for box in boxes]
        costs = [_area(box, marks) + 2 * _area(box, names) + 9 * out for box, out in zip(boxes, outside, strict=True)]
        best = costs.index(min(costs))
        for place in places[:best] + places[best + 1 :]:
            place.remove()
        if _OFFSETS[best] in _FAR:
            line = {"arrowstyle": "-", "color": _GREY, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4}
            axis.annotate("", point, places[best].xyann, textcoords="offset points", arrowprops=line)
        names.append(boxes[best])


def _place(axis: Axes, name: str, point: Point, right: int, up: int) -> Annotation:
    """A name at some points' distance from its point."""
    ha = "left" if right > 0 else "right" if right < 0 else "center"
    va = "bottom" if up > 0 else "top" if up < 0 else "center"
    place = axis.annotate(name, point, (right, up), textcoords="offset points", ha=ha, va=va)
    place.set_in_layout(False)
    return place


def _area(box: Bbox, others: Sequence[Bbox]) -> float:
    """How much of a box others cover."""
    shared = (Bbox.intersection(box, other) for other in others)
    return sum(part.width * part.height for part in shared if part is not None)
