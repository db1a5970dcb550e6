"""What was gained on one side against what was kept on the other."""

from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sempa_lightning.evaluation.report.charts.chart import COLOURS, GREY, GRID, WIDTH, Chart, drawn
from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.headline import embedding_column, generation_column
from sempa_lightning.evaluation.report.rows import Row
from sempa_lightning.evaluation.report.suite_tables import Column

_MOST_NAMES = 8
# Letters of a line beside an axis, and of a name's beside a point.
_LINE, _NAME_LINE = 46, 28
# Points that an axis spans at least, so that a change of a tenth does not look like a leap.
_LEAST_SPAN = 4.0


def trade_chart(comparison: Comparison) -> Chart | None:
    """Embeddings against generation, a point for each row, with those that no other row beats on both sides."""
    across, up = generation_column(comparison), embedding_column(comparison)
    if across is None or up is None:
        return None
    points = {}
    for row in comparison.rows:
        x, y = comparison.value(row, across.numbers), comparison.value(row, up.numbers)
        if x is not None and y is not None:
            points[row] = (x.mean * across.how.scale, y.mean * up.how.scale)
    if len({x for x, _ in points.values()}) < 2:  # noqa: PLR2004 (a readout alone trades nothing)
        return None
    front = _front(points, across)
    if len(points) <= _MOST_NAMES:
        names, told = {row: row.label for row in points}, "Crosses: 95 % intervals."
    else:
        names = {row: str(number) for number, row in enumerate(front, 1)}
        told = "; ".join(f"{number}: {row.label}" for row, number in names.items()) + "."
    caption = (
        "Right and up is better. Arrows lead from the base; the dashed line joins what no other row beats on both"
        f" sides. {told}"
    )
    draw = partial(_figure, comparison, points, (across, up), front, names)
    return drawn("Embeddings against generation", draw, caption)


def _front(points: Mapping[Row, tuple[float, float]], across: Column) -> list[Row]:
    """Rows that no other row beats on both sides, the worst at generation first."""
    sign = -1 if across.how.better == "lower" else 1
    places = {row: (sign * x, y) for row, (x, y) in points.items()}
    best = pareto([*places.values()])
    return sorted((row for row, place in places.items() if place in best), key=places.__getitem__)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats on both sides, from left to right; more is better on both.

    >>> pareto([(1.0, 5.0), (2.0, 4.0), (1.5, 4.0)])
    [(1.0, 5.0), (2.0, 4.0)]
    """
    return sorted({point for point in points if not any(_beats(other, point) for other in points)})


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def _figure(
    comparison: Comparison,
    points: Mapping[Row, tuple[float, float]],
    columns: tuple[Column, Column],
    front: Sequence[Row],
    names: Mapping[Row, str],
) -> Figure:
    """Every row's point; arrows and crosses of many rows would hide them."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    across, up = columns
    axis.plot(*zip(*(points[row] for row in front), strict=True), color=GREY, linewidth=1, linestyle="--", zorder=1)
    crowded = len(names) < len(points)
    for row, (x, y) in points.items():
        axis.plot(x, y, "o", color=COLOURS[1] if row.trained else COLOURS[0], markersize=6)
        if row.trained:
            _arrow_from_base(axis, points, row, 0.35 if crowded else 1.0)
            if not crowded:
                _interval_cross(axis, (x, y), comparison, row, columns)
    axis.margins(0.18)
    axis.set_xlim(_wide_enough(axis.get_xlim(), across))
    if across.how.better == "lower":
        axis.invert_xaxis()
    axis.set_ylim(_wide_enough(axis.get_ylim(), up))
    for row, name in names.items():
        name_point(axis, name, points[row])
    axis.set_xlabel(fill(f"generation: {_axis_label(across)}", _LINE))
    axis.set_ylabel(fill(f"embeddings: {_axis_label(up)}", _LINE))
    axis.grid(color=GRID)
    axis.set_axisbelow(True)
    return figure


def _interval_cross(
    axis: Axes, point: tuple[float, float], comparison: Comparison, row: Row, columns: tuple[Column, Column]
) -> None:
    """The 95 % intervals of both changes, around the point."""
    for place, column in enumerate(columns):
        change = comparison.change(row, column.numbers)
        if change is not None and change.low is not None and change.high is not None:
            low, high = (point[place] + (end - change.value) * column.how.scale for end in (change.low, change.high))
            lines = axis.vlines if place else axis.hlines
            lines(point[1 - place], low, high, color=COLOURS[1], linewidth=1, alpha=0.6)


def _arrow_from_base(axis: Axes, points: Mapping[Row, tuple[float, float]], row: Row, alpha: float) -> None:
    """From the row's own base; from the only base where several runs share one."""
    folders = {id(member.evaluation) for member in row.members}
    bases = [other for other in points if not other.trained]
    own = [base for base in bases if folders & {id(member.evaluation) for member in base.members}]
    arrow = {"arrowstyle": "->", "color": "#9ca3af", "shrinkA": 5, "shrinkB": 5, "alpha": alpha}
    for base in own or bases[: len(bases) == 1]:
        axis.annotate("", points[row], points[base], arrowprops=arrow)


def _wide_enough(limits: tuple[float, float], column: Column) -> tuple[float, float]:
    missing = max(0.0, _LEAST_SPAN - (limits[1] - limits[0])) if column.how.scale != 1 else 0.0
    return limits[0] - missing / 2, limits[1] + missing / 2


def name_point(axis: Axes, name: str, point: tuple[float, float]) -> None:
    """Write a name beside a point, towards the middle."""
    is_left = axis.transLimits.transform(point)[0] < 0.5  # noqa: PLR2004 (the middle)
    place, side = ((6, 5), "left") if is_left else ((-6, 5), "right")
    name = fill(name, _NAME_LINE)
    axis.annotate(name, point, place, textcoords="offset points", ha=side, fontsize=10, color="#111827")


def _axis_label(column: Column) -> str:
    metric = column.how.heading if len({name for _, name in column.numbers}) == 1 else "score ↑"
    return f"{metric}, {column.label}"
