"""Embeddings against the language model: which runs no other beats on both."""

from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import fill

from matplotlib.figure import Figure

from sempa_lightning.evaluation.drawing import plain_ticks
from sempa_lightning.evaluation.report.charts.chart import COLOURS, GREY, GRID, WIDTH, Chart, drawn
from sempa_lightning.evaluation.report.charts.trade import name_point
from sempa_lightning.evaluation.report.comparison import Value
from sempa_lightning.sweeps.report.rows import Row
from sempa_lightning.sweeps.report.scores import Score
from sempa_lightning.sweeps.table import unbeaten

# Letters of a line beside an axis.
_LINE = 46
_FAR_APART = 20.0

Place = tuple[Value, Value]


def exchange_chart(
    rows: Sequence[Row], embeddings: Score | None, language: Score | None, colours: Mapping[Row, str]
) -> Chart | None:
    """A point for each row that has both numbers; None for fewer than two."""
    if embeddings is None or language is None:
        return None
    places = {row: (x, y) for row in rows if (x := language.value(row)) and (y := embeddings.value(row))}
    if len(places) < 2:  # noqa: PLR2004 (one beats nobody)
        return None
    stars = unbeaten([(-x.mean, y.mean) for x, y in places.values()])
    front = [row for row, star in zip(places, stars, strict=True) if star]
    named = front if len(colours) > len(COLOURS) else []  # the colours of a few are names enough
    caption = (
        "Right and up is better; the dashed line joins the runs that no other beats on both sides"
        + (", named as in the table" if named else "")
        + ". Grey: before training."
        + (" Crosses: standard deviation over seeds." if any(len(row.runs) > 1 for row in places) else "")
    )
    draw = partial(_figure, places, front, named, (language, embeddings), colours)
    return drawn(f"Embeddings against {language.label}", draw, caption)


def _figure(
    places: Mapping[Row, Place],
    front: Sequence[Row],
    named: Sequence[Row],
    scores: tuple[Score, Score],
    colours: Mapping[Row, str],
) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    scales = [score.how.scale for score in scores]
    for row in places:
        if (old_x := scores[0].before(row)) and (old_y := scores[1].before(row)):
            old = old_x.mean * scales[0], old_y.mean * scales[1]
            axis.plot(*old, "D", color=GREY, markersize=5, markerfacecolor="white")
    points = {row: (x.mean * scales[0], y.mean * scales[1]) for row, (x, y) in places.items()}
    axis.plot(
        *zip(*sorted(points[row] for row in front), strict=True), color=GREY, linewidth=1, linestyle="--", zorder=1
    )
    for row, (x, y) in places.items():
        spreads = [(value.sd or 0.0) * scale for value, scale in zip((x, y), scales, strict=True)]
        colour = colours[row]
        axis.errorbar(
            *points[row], yerr=spreads[1], xerr=spreads[0], fmt="o", color=colour, markersize=6, linewidth=0.9
        )
    across = [x for x, _ in points.values()]
    if min(across) > 0 and max(across) > _FAR_APART * min(across):
        axis.set_xscale("log")
        plain_ticks(axis.xaxis)
    axis.margins(0.18)
    axis.invert_xaxis()
    for row in named:
        name_point(axis, row.name, points[row])
    axis.set_xlabel(fill(scores[0].heading, _LINE))
    axis.set_ylabel(fill(scores[1].heading + (" × 100" if scales[1] != 1 else ""), _LINE))
    axis.grid(color=GRID)
    axis.set_axisbelow(True)
    return figure
