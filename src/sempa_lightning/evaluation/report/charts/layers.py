"""A heat map of layers and readouts."""

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure

from sempa_lightning.evaluation.report.charts.chart import Chart, drawn
from sempa_lightning.evaluation.report.charts.heat import heat_map
from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.headline import embedding_column, what
from sempa_lightning.evaluation.report.rows import Row
from sempa_lightning.evaluation.report.suite_tables import Column


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
            caption = f"{what(column)}; layer −1 is the last."
            charts.append(drawn(title, partial(_figure, comparison, column, rows, layers, readouts), caption))
    return charts


def _layer(layer: str) -> tuple[int, float, str]:
    """Layers in order; a list of layers after all single ones."""
    try:
        return 0, float(layer.replace("−", "-")), layer
    except ValueError:
        return 1, 0.0, layer


def _figure(
    comparison: Comparison, column: Column, rows: Sequence[Row], layers: Sequence[str], readouts: Sequence[str]
) -> Figure:
    found = {(row.facets["readout"], row.facets["layer"]): comparison.value(row, column.numbers) for row in rows}
    grid = [[found.get((readout, layer)) for layer in layers] for readout in readouts]
    numbers = [[float("nan") if value is None else value.mean * column.how.scale for value in line] for line in grid]
    return heat_map(numbers, readouts, layers, ("", "layer"), 1)
