"""Heat maps over the grids that runs make."""

import itertools
import statistics
from collections.abc import Sequence
from functools import partial

from sempa_lightning.evaluation.report.charts.chart import Chart, drawn
from sempa_lightning.evaluation.report.charts.heat import heat_map
from sempa_lightning.sweeps.report.rows import Row, heading, number
from sempa_lightning.sweeps.report.scores import Score

_MOST_VALUES = 12
_MOST_MAPS = 3


def grid_charts(rows: Sequence[Row], score: Score) -> list[Chart]:
    """The mean of a score for each pair of values of two keys, for every two keys of which runs fill half of the grid.

    With many keys, maps of those that move the score most.
    """
    found = {row: value.mean * score.how.scale for row in rows if (value := score.value(row))}
    keys = dict.fromkeys(key for row in found for key in row.settings)
    values = {key: ordered([row.settings[key] for row in found if key in row.settings]) for key in keys}
    charts = []
    few = [key for key in keys if 1 < len(values[key]) <= _MOST_VALUES]
    for across, down in itertools.combinations(sorted(few, key=lambda key: -_effect(found, key)), 2):
        means = [[_mean(found, {down: low, across: high}) for high in values[across]] for low in values[down]]
        filled = [value for line in means for value in line if value == value]  # noqa: PLR0124 (not NaN)
        if 2 * len(filled) >= len(values[across]) * len(values[down]) > 3:  # noqa: PLR2004 (two of each)
            draw = partial(
                heat_map,
                means,
                values[down],
                values[across],
                (heading(down), heading(across)),
                min(score.how.digits, 3),
            )
            others = len(keys) > 2  # noqa: PLR2004 (the two)
            caption = f"{score.heading}{' × 100' if score.how.scale != 1 else ''}" + (
                "; mean over the other settings." if others else "."
            )
            charts.append(drawn(f"{heading(across)} and {heading(down)}", draw, caption))
    return charts[:_MOST_MAPS]


def ordered(values: Sequence[str]) -> list[str]:
    """Values, each once: numbers by size, anything else as it comes."""
    different = list(dict.fromkeys(values))
    numbers = {value: known for value in different if (known := number(value)) is not None}
    return sorted(different, key=numbers.__getitem__) if len(numbers) == len(different) else different


def _effect(found: dict[Row, float], key: str) -> float:
    """How far the means of a key's values are apart."""
    means = [_mean(found, {key: value}) for value in {row.settings.get(key, "") for row in found}]
    known = [mean for mean in means if mean == mean]  # noqa: PLR0124 (not NaN)
    return max(known) - min(known)


def _mean(found: dict[Row, float], settings: dict[str, str]) -> float:
    """Mean score of the rows with some settings; NaN without any."""
    own = [value for row, value in found.items() if settings.items() <= row.settings.items()]
    return statistics.fmean(own) if own else float("nan")
