"""Pictures of a report, as SVG: every change, curves over steps, layers and readouts, embeddings against generation."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.folder import Evaluation
from sempa_lightning.evaluation.report.headline import embedding_column, generation_column
from sempa_lightning.evaluation.report.metric import display
from sempa_lightning.evaluation.report.rows import Row
from sempa_lightning.evaluation.report.suite import FAMILIES, headline_metric
from sempa_lightning.evaluation.report.suite_tables import CHANCE_MARK, Column, task_columns

# Okabe and Ito's colours, apart for every kind of colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_GREY = "#6b7280"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "legend.frameon": False,
    "svg.hashsalt": "sempa_lightning",
}
_WIDTH = 4.6
_MOST_CURVES = 12
_MOST_SERIES = 4
_MOST_NAMES = 8
# Points that an axis spans at least, so that a change of a tenth does not look like a leap.
_LEAST_SPAN = 4.0


@dataclass(frozen=True)
class Chart:
    """A picture: its title, and the SVG."""

    title: str
    svg: str


def change_charts(comparison: Comparison) -> list[Chart]:
    """Every task's change with its 95 % interval, a chart for each side; nothing where nothing was trained."""
    rows = [row for row in comparison.rows if row.trained]
    charts = []
    for title, names in (
        ("Embeddings: every task's change", ("sts", "transfer", "clustering", "classification", "pairs", "mteb")),
        ("Generation: every task's change", ("harness",)),
    ):
        columns = [column for family in FAMILIES if family.name in names for column in task_columns(comparison, family)]
        if columns and 0 < len(rows) <= _MOST_SERIES:
            charts.append(_chart(title, _change_figure, comparison, rows, columns))
    return charts


def curve_charts(evaluations: Sequence[Evaluation]) -> list[Chart]:
    """Curves over the steps of training: loss, what was probed on the way, what followed checkpoints gave."""
    logs = {
        evaluation.run.path.name if evaluation.run else evaluation.path.name: evaluation.log()
        for evaluation in evaluations
    }
    keys = _curve_keys(key for log in logs.values() for line in log for key in line)
    charts = []
    for key in keys[:_MOST_CURVES]:
        curves = {
            name: [(line["step"], line[key]) for line in log if _is_point(line, key)] for name, log in logs.items()
        }
        curves = {name: points for name, points in curves.items() if len(points) > 1}
        if curves:
            charts.append(_chart(key, _curve_figure, key, curves))
    return charts


def layer_charts(comparison: Comparison) -> list[Chart]:
    """Average STS for each layer and readout, where several of both were measured."""
    column = embedding_column(comparison)
    charts = []
    for trained in (False, True):
        rows = [row for row in comparison.rows if row.trained == trained and {"layer", "readout"} <= row.facets.keys()]
        layers = sorted({row.facets["layer"] for row in rows}, key=_layer)
        readouts = list(dict.fromkeys(row.facets["readout"] for row in rows))
        if column and len(layers) > 1 and len(readouts) > 1:
            title = f"Layers and readouts, {'trained' if trained else 'base'}"
            charts.append(_chart(title, _layer_figure, comparison, column, rows, layers, readouts))
    return charts


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
    return _chart("Embeddings against generation", _trade_figure, comparison, points, across, up)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats on both sides, from left to right; more is better on both.

    >>> pareto([(1.0, 5.0), (2.0, 4.0), (1.5, 4.0)])
    [(1.0, 5.0), (2.0, 4.0)]
    """
    return sorted({point for point in points if not any(_beats(other, point) for other in points)})


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def _chart(title: str, draw: Any, *content: Any) -> Chart:  # noqa: ANN401 (what the drawing takes)
    """Draw in the report's style; the same content gives the same bytes."""
    with rc_context(_STYLE):
        figure: Figure = draw(*content)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Chart(title, svg.getvalue())


def _change_figure(comparison: Comparison, rows: Sequence[Row], columns: Sequence[Column]) -> Figure:
    figure = Figure(
        figsize=(_WIDTH, 0.9 + 0.26 * len(columns) * max(1.0, 0.6 * len(rows)) + 0.2 * (len(rows) > 1) * len(rows)),
        layout="constrained",
    )
    axis = figure.subplots()
    axis.axvline(0, color=_GREY, linewidth=1)
    for place, row in enumerate(rows):
        shift = (place - (len(rows) - 1) / 2) * 0.7 / len(rows)
        drawn = False
        for height, column in enumerate(columns):
            change = comparison.change(row, column.numbers)
            if change is None:
                continue
            value, _, low, high = change.scaled(column.how.scale)
            colour = _COLOURS[place % len(_COLOURS)]
            if low is not None and high is not None:
                axis.plot([low, high], [height + shift] * 2, color=colour, linewidth=1.6, solid_capstyle="round")
            face = "white" if column.at_chance else colour
            axis.plot(
                value,
                height + shift,
                "o",
                markersize=5,
                color=colour,
                markerfacecolor=face,
                label=None if drawn else row.label,
            )
            drawn = True
    axis.set_yticks(
        range(len(columns)), [column.label + (CHANCE_MARK if column.at_chance else "") for column in columns]
    )
    axis.set_ylim(len(columns) - 0.5, -0.5)
    axis.set_xlabel("change against the base, points, with 95 % interval")
    axis.grid(axis="x", color="#e5e7eb")
    axis.set_axisbelow(True)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    if len(rows) > 1:
        figure.legend(loc="outside lower left", ncols=1, fontsize=8)
    return figure


def _curve_keys(logged: Iterable[str]) -> list[str]:
    """The losses, and of each task the metric that speaks for it."""
    every = dict.fromkeys(logged)
    tasks: dict[str, list[str]] = {}
    for key in every:
        stage, _, rest = key.partition("/")
        if stage == "eval":
            task, _, metric = rest.rpartition("/")
            tasks.setdefault(task, []).append(metric)
    spoken = [f"eval/{task}/{headline_metric(task, metrics, {})}" for task, metrics in tasks.items()]
    return [*(key for key in ("train/loss", "val/loss") if key in every), *spoken]


def _is_point(line: Mapping[str, Any], key: str) -> bool:
    return isinstance(line.get(key), int | float) and isinstance(line.get("step"), int | float)


def _curve_figure(key: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    figure = Figure(figsize=(_WIDTH, 2.6), layout="constrained")
    axis = figure.subplots()
    how = display(key.rpartition("/")[2])
    for place, (name, points) in enumerate(curves.items()):
        steps, values = zip(*sorted(points), strict=True)
        axis.plot(
            steps,
            [value * how.scale for value in values],
            color=_COLOURS[place % len(_COLOURS)],
            linewidth=1.5,
            marker="o",
            markersize=2.5,
            label=name,
        )
    axis.set(xlabel="step", ylabel=how.heading + (" × 100" if how.scale != 1 else ""))
    axis.grid(color="#e5e7eb")
    if 1 < len(curves) <= len(_COLOURS):
        axis.legend(fontsize=8)
    return figure


def _layer(layer: str) -> tuple[int, float, str]:
    """Layers in order; a list of layers after all single ones."""
    try:
        return 0, float(layer.replace("−", "-")), layer
    except ValueError:
        return 1, 0.0, layer


def _layer_figure(
    comparison: Comparison, column: Column, rows: Sequence[Row], layers: Sequence[str], readouts: Sequence[str]
) -> Figure:
    found = {(row.facets["readout"], row.facets["layer"]): comparison.value(row, column.numbers) for row in rows}
    grid = [[found.get((readout, layer)) for layer in layers] for readout in readouts]
    numbers = [[float("nan") if value is None else value.mean * column.how.scale for value in line] for line in grid]
    figure = Figure(figsize=(max(_WIDTH, 2 + 0.6 * len(layers)), 1.1 + 0.34 * len(readouts)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(numbers, cmap="cividis", aspect="auto")
    low, high = image.get_clim()
    for height, line in enumerate(numbers):
        for place, number in enumerate(line):
            if not math.isnan(number):
                ink = "black" if number > (low + high) / 2 else "white"
                axis.text(place, height, f"{number:.1f}", ha="center", va="center", fontsize=8, color=ink)
    axis.set_xticks(range(len(layers)), layers)
    axis.set_yticks(range(len(readouts)), [name if len(name) <= 28 else name[:27] + "…" for name in readouts])  # noqa: PLR2004
    axis.set_xlabel("layer")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure


def _trade_figure(
    comparison: Comparison, points: Mapping[Row, tuple[float, float]], across: Column, up: Column
) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    sign = -1 if across.how.better == "lower" else 1
    front = pareto([(sign * x, y) for x, y in points.values()])
    axis.plot([sign * x for x, _ in front], [y for _, y in front], color=_GREY, linewidth=1, linestyle="--", zorder=1)
    for row, (x, y) in points.items():
        axis.plot(x, y, "o", color=_COLOURS[1] if row.trained else _COLOURS[0], markersize=6)
        if row.trained:
            _interval_cross(axis, (x, y), comparison, row, (across, up))
            _arrow_from_base(axis, points, row)
    _name_points(axis, points)
    axis.margins(0.18)
    axis.set_xlim(_wide_enough(axis.get_xlim(), across))
    if sign < 0:
        axis.invert_xaxis()
    axis.set_ylim(_wide_enough(axis.get_ylim(), up))
    axis.set(xlabel=f"generation: {_axis_label(across)}", ylabel=f"embeddings: {_axis_label(up)}")
    axis.grid(color="#e5e7eb")
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
            lines(point[1 - place], low, high, color=_COLOURS[1], linewidth=1, alpha=0.6)


def _arrow_from_base(axis: Axes, points: Mapping[Row, tuple[float, float]], row: Row) -> None:
    """From the row's own base; from the only base where several runs share one."""
    folders = {id(member.evaluation) for member in row.members}
    bases = [other for other in points if not other.trained]
    own = [base for base in bases if folders & {id(member.evaluation) for member in base.members}]
    arrow = {"arrowstyle": "->", "color": "#9ca3af", "shrinkA": 5, "shrinkB": 5}
    for base in own or bases[: len(bases) == 1]:
        axis.annotate("", points[row], points[base], arrowprops=arrow)


def _wide_enough(limits: tuple[float, float], column: Column) -> tuple[float, float]:
    missing = max(0.0, _LEAST_SPAN - (limits[1] - limits[0])) if column.how.scale != 1 else 0.0
    return limits[0] - missing / 2, limits[1] + missing / 2


def _name_points(axis: Axes, points: Mapping[Row, tuple[float, float]]) -> None:
    """Names beside few points; among many they would cover each other."""
    if len(points) <= _MOST_NAMES:
        for row, point in points.items():
            axis.annotate(row.label, point, (6, 5), textcoords="offset points", fontsize=8, color="#111827")


def _axis_label(column: Column) -> str:
    metric = column.how.heading if len({name for _, name in column.numbers}) == 1 else "score ↑"
    return f"{metric}, {column.label}"
