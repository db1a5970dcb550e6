"""Curves over the steps of training."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from sempa_lightning.evaluation.report.charts.chart import COLOURS, GRID, WIDTH, Chart, drawn
from sempa_lightning.evaluation.report.folder import Evaluation
from sempa_lightning.evaluation.report.metric import display
from sempa_lightning.evaluation.report.suite import headline_metric

_MOST_CURVES = 12


def curve_charts(evaluations: Sequence[Evaluation]) -> list[Chart]:
    """Loss, what was probed on the way, what followed checkpoints gave; a curve for each run."""
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
            charts.append(drawn(key, partial(_figure, key, curves)))
    return charts


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


def _figure(key: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axis = figure.subplots()
    how = display(key.rpartition("/")[2])
    for place, (name, points) in enumerate(curves.items()):
        steps, values = zip(*sorted(points), strict=True)
        axis.plot(
            steps,
            [value * how.scale for value in values],
            color=COLOURS[place % len(COLOURS)],
            linewidth=1.5,
            marker="o",
            markersize=2.5,
            label=name,
        )
    axis.set(xlabel="step", ylabel=how.heading + (" × 100" if how.scale != 1 else ""))
    axis.grid(color=GRID)
    if 1 < len(curves) <= len(COLOURS):
        axis.legend(fontsize=8)
    return figure
