"""Every task's change against the base, with its interval."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sempa_lightning.evaluation.report.charts.chart import COLOURS, GREY, GRID, LONGEST, WIDTH, Chart, drawn
from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.rows import Row, shortened
from sempa_lightning.evaluation.report.suite import FAMILIES
from sempa_lightning.evaluation.report.suite_tables import CHANCE_MARK, Column, task_columns

_SIDES = {
    "Embeddings: every task's change": ("sts", "transfer", "clustering", "classification", "pairs", "mteb"),
    "Generation: every task's change": ("harness",),
}
_MOST_ROWS = 4


def change_charts(comparison: Comparison) -> list[Chart]:
    """A chart for each side; nothing where nothing was trained, or too much to be told apart."""
    rows = [row for row in comparison.rows if row.trained]
    charts = []
    for title, names in _SIDES.items():
        columns = [column for family in FAMILIES if family.name in names for column in task_columns(comparison, family)]
        if columns and 0 < len(rows) <= _MOST_ROWS:
            silent = " Hollow: the base is at chance." if any(column.at_chance for column in columns) else ""
            caption = f"Points, with 95 % intervals.{silent}"
            charts.append(drawn(title, partial(_figure, comparison, rows, columns), caption))
    return charts


def _figure(comparison: Comparison, rows: Sequence[Row], columns: Sequence[Column]) -> Figure:
    figure = Figure(
        figsize=(WIDTH, 0.9 + 0.26 * len(columns) * max(1.0, 0.6 * len(rows)) + 0.2 * (len(rows) > 1) * len(rows)),
        layout="constrained",
    )
    axis = figure.subplots()
    axis.axvline(0, color=GREY, linewidth=1)
    for place, row in enumerate(rows):
        shift = (place - (len(rows) - 1) / 2) * 0.7 / len(rows)
        _draw_row(axis, comparison, row, columns, shift, COLOURS[place])
        axis.plot([], [], "o", markersize=5, color=COLOURS[place], label=row.label)  # for the legend
    names = [shortened(column.label, LONGEST) + (CHANCE_MARK if column.at_chance else "") for column in columns]
    axis.set_yticks(range(len(columns)), names)
    axis.set_ylim(len(columns) - 0.5, -0.5)
    axis.grid(axis="x", color=GRID)
    axis.set_axisbelow(True)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    if len(rows) > 1:
        figure.legend(loc="outside lower left", ncols=1, fontsize=8)
    return figure


def _draw_row(
    axis: Axes, comparison: Comparison, row: Row, columns: Sequence[Column], shift: float, colour: str
) -> None:
    """A point and an interval at the height of each task, hollow where the base is at chance."""
    for height, column in enumerate(columns):
        change = comparison.change(row, column.numbers)
        if change is None:
            continue
        value, _, low, high = change.scaled(column.how.scale)
        if low is not None and high is not None:
            axis.plot([low, high], [height + shift] * 2, color=colour, linewidth=1.6, solid_capstyle="round")
        face = "white" if column.at_chance else colour
        axis.plot(value, height + shift, "o", markersize=5, color=colour, markerfacecolor=face)
