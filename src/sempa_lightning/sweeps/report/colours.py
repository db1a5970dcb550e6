"""Colours of rows, the same in every chart and in the table."""

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.colors import to_hex

from sempa_lightning.evaluation.report.charts.chart import COLOURS
from sempa_lightning.sweeps.report.rows import Row

# The palest part of the map is too pale for a line.
_PALEST = 0.9


def row_colours(rows: Sequence[Row]) -> dict[Row, str]:
    """A colour for each row: apart for a few; for many from dark to pale, in their order."""
    if len(rows) <= len(COLOURS):
        return dict(zip(rows, COLOURS, strict=False))
    shades = colormaps["cividis"]
    return {row: to_hex(shades(_PALEST * place / (len(rows) - 1))) for place, row in enumerate(rows)}
