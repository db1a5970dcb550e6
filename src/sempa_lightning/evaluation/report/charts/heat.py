"""Heat maps: a number for each pair of two things."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from sempa_lightning.evaluation.report.charts.chart import LONGEST, WIDTH
from sempa_lightning.evaluation.report.rows import shortened


def heat_map(
    numbers: Sequence[Sequence[float]], down: Sequence[str], across: Sequence[str], labels: tuple[str, str], digits: int
) -> Figure:
    """Draw numbers as colours, and write them into their fields.

    Args:
        numbers: For each name in `down` a number for each in `across`; NaN leaves a field empty.
        down: Names of the lines.
        across: Names of the columns.
        labels: What the lines are, and what the columns.
        digits: Digits after the point.
    """
    figure = Figure(figsize=(max(WIDTH, 2 + 0.6 * len(across)), 1.1 + 0.34 * len(down)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(numbers, cmap="cividis", aspect="auto")
    low, high = image.get_clim()
    for height, line in enumerate(numbers):
        for place, number in enumerate(line):
            if not math.isnan(number):
                ink = "black" if number > (low + high) / 2 else "white"
                axis.text(place, height, f"{number:.{digits}f}", ha="center", va="center", fontsize=8, color=ink)
    axis.set_xticks(range(len(across)), across)
    axis.set_yticks(range(len(down)), [shortened(name, LONGEST) for name in down])
    axis.set(ylabel=labels[0], xlabel=labels[1])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure
