"""Curves over the steps of training."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sempa_lightning.evaluation.drawing import plain_ticks
from sempa_lightning.evaluation.report.charts.chart import GREY, GRID, WIDTH, Chart, drawn
from sempa_lightning.evaluation.report.metric import display
from sempa_lightning.evaluation.report.suite import headline_metric

_MOST_CURVES = 12
# Points of a curve: more are averaged in bins, fewer than so many are marked.
_MOST_POINTS, _FEW_POINTS = 100, 30
# Numbers that are further apart than this have a logarithmic axis.
_FAR_APART = 50.0
# A curve leaves the picture whose top is so many times as high as usual.
_FAR_ABOVE = 3.0
_STAGES = ("train/", "val/", "eval/")
_LANGUAGE = ("kl", "perplexity")

Point = tuple[float, float]


class Logged(NamedTuple):
    """What the runs of one name logged.

    Attributes:
        name: Their name.
        colour: Of their curves.
        logs: For each run its lines, oldest first.
    """

    name: str
    colour: str
    logs: Sequence[Sequence[Mapping[str, Any]]]


def curve_charts(logged: Sequence[Logged]) -> list[Chart]:
    """Loss, what was probed on the way, what followed checkpoints gave, KL and perplexity; a curve for each run."""
    keys = _curve_keys(key for each in logged for log in each.logs for line in log for key in line)
    charts = []
    for key in keys[:_MOST_CURVES]:
        curves = [(each.colour, [points for log in each.logs if (points := curve(log, key))]) for each in logged]
        if any(len(points) > 1 for _, runs in curves for points in runs):
            charts.append(drawn(key, partial(_figure, key, curves)))
    return charts


def curve(log: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    """A logged number by step; of a long log each point is the mean of as many as need be."""
    points = sorted((float(line["step"]), float(line[key])) for line in log if _is_point(line, key))
    size = math.ceil(len(points) / _MOST_POINTS)
    bins = [points[at : at + size] for at in range(0, len(points), size or 1)]
    return [(_mean(step for step, _ in each), _mean(value for _, value in each)) for each in bins]


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return math.fsum(every) / len(every)


def _curve_keys(logged: Iterable[str]) -> list[str]:
    """The losses, of each task the metric that speaks for it, and what the language model paid."""
    every = dict.fromkeys(logged)
    tasks: dict[str, list[str]] = {}
    for key in every:
        stage, _, rest = key.partition("/")
        if stage == "eval":
            task, _, metric = rest.rpartition("/")
            tasks.setdefault(task, []).append(metric)
    spoken = [f"eval/{task}/{headline_metric(task, metrics, {})}" for task, metrics in tasks.items()]
    paid = [key for key in every if key.startswith(_STAGES) and key.rpartition("/")[2] in _LANGUAGE]
    return list(dict.fromkeys([*(key for key in ("train/loss", "val/loss") if key in every), *spoken, *paid]))


def _is_point(line: Mapping[str, Any], key: str) -> bool:
    return all(isinstance(line.get(name), int | float) and math.isfinite(line[name]) for name in ("step", key))


def _figure(key: str, curves: Sequence[tuple[str, Sequence[Sequence[Point]]]]) -> Figure:
    """The curves of several seeds are thin."""
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axis = figure.subplots()
    how = display(key.rpartition("/")[2])
    for colour, runs in curves:
        for points in runs:
            steps, values = zip(*points, strict=True)
            axis.plot(
                steps,
                [value * how.scale for value in values],
                color=colour,
                linewidth=1.5 if len(runs) == 1 else 0.8,
                marker="o" if len(points) <= _FEW_POINTS else "",
                markersize=2.5,
            )
    _stretch(axis, [[value * how.scale for _, value in points] for _, runs in curves for points in runs])
    axis.set(xlabel="step", ylabel=how.heading + (" × 100" if how.scale != 1 else ""))
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(color=GRID)
    return figure


def _stretch(axis: Axes, curves: Sequence[Sequence[float]]) -> None:
    """Let the usual curves be read: wide ranges are logarithmic, a few that run far above leave the picture."""
    highest = statistics.median(map(max, curves))
    usual = [values for values in curves if max(values) <= _FAR_ABOVE * highest]
    if min(map(min, curves)) <= 0:
        return
    low, high = min(map(min, usual)), max(map(max, usual))
    if high > _FAR_APART * low:
        axis.set_yscale("log")
        plain_ticks(axis.yaxis)
    elif gone := len(curves) - len(usual):
        margin = 0.08 * (high - low)
        axis.set_ylim(low - margin, high + margin)
        axis.set_title(f"{gone} higher ↑", loc="right", fontsize=8, color=GREY)
