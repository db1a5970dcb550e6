"""Heat maps over the grids that runs make."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from sempa_lightning.evaluation.report.charts.chart import Chart, drawn
from sempa_lightning.evaluation.report.charts.heat import heat_map
from sempa_lightning.sweeps.report.rows import Row, heading, number
from sempa_lightning.sweeps.report.scores import Score

_MOST_VALUES = 12
_MOST_MAPS = 3


class Grid(NamedTuple):
    """Values of two keys, and the mean score for each pair of them, a line for each value of `down`; NaN for no run."""

    down: str
    across: str
    down_values: list[str]
    across_values: list[str]
    means: list[list[float]]


def grid_charts(rows: Sequence[Row], score: Score) -> list[Chart]:
    """A heat map of each grid."""
    unit = f"{score.heading}{' × 100' if score.how.scale != 1 else ''}"
    several = len({key for row in rows for key in row.settings}) > 2  # noqa: PLR2004 (those of the grid)
    caption = unit + ("; mean over the other settings." if several else ".")
    charts = []
    for grid in grids(rows, score):
        down, across = heading(grid.down), heading(grid.across)
        labels = down.rpartition(".")[2], across.rpartition(".")[2]  # a long one is longer than a low map
        draw = partial(heat_map, grid.means, grid.down_values, grid.across_values, labels, min(score.how.digits, 3))
        charts.append(drawn(f"{across} and {down}", draw, caption))
    return charts


def grids(rows: Sequence[Row], score: Score) -> list[Grid]:
    """Every two keys of whose pairs of values the runs fill half; of many those that move the score most."""
    found = {row: value.mean * score.how.scale for row in rows if (value := score.value(row))}
    values = {
        key: ordered([row.settings[key] for row in found if key in row.settings])
        for key in dict.fromkeys(key for row in found for key in row.settings)
    }
    few = [key for key in values if 1 < len(values[key]) <= _MOST_VALUES]
    filled = []
    for across, down in itertools.combinations(sorted(few, key=lambda key: -_effect(found, key)), 2):
        means = [[_mean(found, {down: low, across: high}) for high in values[across]] for low in values[down]]
        known = sum(not math.isnan(mean) for line in means for mean in line)
        if 2 * known >= len(values[across]) * len(values[down]):
            filled.append(Grid(down, across, values[down], values[across], means))
    return filled[:_MOST_MAPS]


def ordered(values: Sequence[str]) -> list[str]:
    """Values, each once: numbers by size, anything else as it comes."""
    different = list(dict.fromkeys(values))
    numbers = {value: known for value in different if (known := number(value)) is not None}
    return sorted(different, key=numbers.__getitem__) if len(numbers) == len(different) else different


def _effect(found: Mapping[Row, float], key: str) -> float:
    """How far the means of a key's values are apart."""
    means = [_mean(found, {key: value}) for value in {row.settings[key] for row in found if key in row.settings}]
    known = [mean for mean in means if not math.isnan(mean)]
    return max(known) - min(known)


def _mean(found: Mapping[Row, float], settings: Mapping[str, str]) -> float:
    """Mean score of the rows with some settings; NaN without any."""
    own = [value for row, value in found.items() if settings.items() <= row.settings.items()]
    return statistics.fmean(own) if own else math.nan
