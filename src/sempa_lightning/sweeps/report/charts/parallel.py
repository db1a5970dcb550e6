"""Parallel coordinates: each row a line through its settings and its scores."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import fill
from typing import NamedTuple

from matplotlib.figure import Figure

from sempa_lightning.evaluation.report.charts.chart import GRID, WIDTH, Chart, drawn
from sempa_lightning.evaluation.report.metric import shown
from sempa_lightning.evaluation.report.rows import shortened
from sempa_lightning.sweeps.report.charts.grids import ordered
from sempa_lightning.sweeps.report.rows import Row, heading, number
from sempa_lightning.sweeps.report.scores import Score

_LEAST_ROWS = 3
# Values that an axis names one by one; letters of a value and of a line of a heading.
_MOST_TICKS, _TICK, _HEADING = 6, 11, 15
# Numbers that are further apart than this are set out by their logarithms.
_FAR_APART = 20.0
_INCHES = 1.15


class _Axis(NamedTuple):
    """One axis: heights of the rows from 0 to 1, NaN where a row has none; heights with what is written there."""

    heading: str
    heights: list[float]
    ticks: list[tuple[float, str]]


def parallel_chart(rows: Sequence[Row], scores: Sequence[Score], colours: Mapping[Row, str]) -> Chart | None:
    """Draw rows that have the first of the scores; None for too few, or where nothing tells them apart."""
    rows = [row for row in rows if scores and scores[0].value(row)]
    keys = [key for key in dict.fromkeys(key for row in rows for key in row.settings) if _differs(rows, key)]
    if len(rows) < _LEAST_ROWS or not keys:
        return None
    axes = [_setting_axis(rows, key) for key in keys] + [_score_axis(rows, score) for score in scores]
    draw = partial(_figure, axes, [colours[row] for row in rows])
    caption = "A line for each row of the table; numbers with an arrow have their better end up."
    return drawn("Settings and numbers", draw, caption)


def _differs(rows: Sequence[Row], key: str) -> bool:
    return len({row.settings.get(key) for row in rows}) > 1


def _setting_axis(rows: Sequence[Row], key: str) -> _Axis:
    texts = [row.settings.get(key) for row in rows]
    numbers = [number(text) for text in texts]
    known = [value for value in numbers if value is not None]
    values = ordered([text for text in texts if text is not None])
    if len(known) < len([text for text in texts if text is not None]):
        places = {value: float(place) for place, value in enumerate(values)}
        return _axis(heading(key), [math.nan if text is None else places[text] for text in texts], [*places.items()])
    scale = _logarithm if min(known) > 0 and max(known) > _FAR_APART * min(known) else float
    if len(values) > _MOST_TICKS:
        values = [values[0], values[len(values) // 2], values[-1]]
    ticks = [(value, scale(float(value))) for value in values]
    return _axis(heading(key), [math.nan if value is None else scale(value) for value in numbers], ticks)


def _score_axis(rows: Sequence[Row], score: Score) -> _Axis:
    """The better, the higher."""
    found = [score.value(row) for row in rows]
    sign = -1.0 if score.how.better == "lower" else 1.0
    numbers = [math.nan if value is None else value.mean * score.how.scale for value in found]
    known = [value for value in numbers if not math.isnan(value)]
    scale = _logarithm if min(known) > 0 and max(known) > _FAR_APART * min(known) else float
    ends = [(shown(value, score.how.digits), sign * scale(value)) for value in (min(known), max(known))]
    heights = [value if math.isnan(value) else sign * scale(value) for value in numbers]
    return _axis(score.heading, heights, ends)


def _logarithm(value: float) -> float:
    return math.log(value)


def _axis(name: str, heights: Sequence[float], ticks: Sequence[tuple[str, float]]) -> _Axis:
    """Set the lowest height to 0 and the highest to 1; a single one to the middle."""
    known = [height for height in heights if not math.isnan(height)]
    low, span = min(known), max(known) - min(known)

    def placed(height: float) -> float:
        return (height - low) / span if span else 0.5

    named = {text: placed(height) for text, height in ticks}
    return _Axis(name, [placed(height) for height in heights], [(at, text) for text, at in named.items()])


def _figure(axes: Sequence[_Axis], colours: Sequence[str]) -> Figure:
    """The first rows, which are the best, above the others."""
    figure = Figure(figsize=(max(WIDTH, _INCHES * (len(axes) + 0.6)), 3.0), layout="constrained")
    axis = figure.subplots()
    for place, each in enumerate(axes):
        axis.axvline(place, color=GRID, linewidth=1.2, zorder=0)
        for height, text in each.ticks:
            axis.text(
                place + 0.04, height, shortened(text, _TICK), fontsize=7.5, va="center", color="#374151", zorder=3
            ).set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8})
    for order, colour in enumerate(colours):
        heights = [each.heights[order] for each in axes]
        axis.plot(range(len(axes)), heights, color=colour, linewidth=1.3, alpha=0.9, zorder=2 - order / len(colours))
    axis.set_xticks(range(len(axes)), [_broken(each.heading) for each in axes], fontsize=8)
    axis.tick_params(length=0)
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_xlim(-0.15, len(axes) - 0.45)
    axis.set_ylim(-0.06, 1.06)
    return figure


def _broken(name: str) -> str:
    """A name in lines, broken at its points and strokes, with its arrow beside the last word."""
    bound = re.sub(r" (?=[↑↓]$)", "\N{NO-BREAK SPACE}", name)
    return fill(re.sub(r"([./])", r"\1 ", bound), _HEADING).replace(". ", ".").replace("/ ", "/")
