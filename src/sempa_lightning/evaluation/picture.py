"""A picture of a run: how training went, and what it did to similarity."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sempa_lightning.evaluation.drawing import plain_text
from sempa_lightning.evaluation.task import Items, Measurement

_BEFORE, _AFTER = "#9aa0a6", "#1a73e8"


def save_picture(
    path: Path,
    log: Sequence[Mapping[str, Any]],
    monitor: str,
    before: Mapping[str, Measurement],
    after: Mapping[str, Measurement],
) -> None:
    """Draw training loss, the monitored metric, and cosine against gold score for each STS task.

    Args:
        path: The PNG to write.
        log: Logged metrics, one mapping for each line of `metrics.jsonl`.
        monitor: Name of the monitored metric.
        before: What each task measured before training.
        after: What it measured after training.
    """
    with plain_text():
        _figure(log, monitor, before, after).savefig(path, dpi=120)


def _figure(
    log: Sequence[Mapping[str, Any]],
    monitor: str,
    before: Mapping[str, Measurement],
    after: Mapping[str, Measurement],
) -> Figure:
    similarity = [name for name, (items, _) in before.items() if {"cosine", "gold"} <= items.keys() and name in after]
    figure = Figure(figsize=(4 * (2 + len(similarity)), 3.2), layout="constrained")
    axes = figure.subplots(1, 2 + len(similarity), squeeze=False)[0]
    _curve(axes[0], log, "train/loss")
    _curve(axes[1], log, monitor)
    for axis, name in zip(axes[2:], similarity, strict=True):
        _similarity(axis, name, before[name].items, after[name].items)
    return figure


def _curve(axis: Axes, log: Sequence[Mapping[str, Any]], key: str) -> None:
    points = [(line["step"], line[key]) for line in log if key in line]
    axis.plot(*zip(*points, strict=True) if points else ((), ()), color=_AFTER, marker="o", markersize=3)
    axis.set(title=key, xlabel="step")


def _similarity(axis: Axes, name: str, before: Items, after: Items) -> None:
    """Mean cosine, relative to all pairs, in each unit band of the gold score: the steeper the better."""
    for label, items, colour in (("before", before, _BEFORE), ("after", after, _AFTER)):
        bands = items["gold"].round()
        relative = (items["cosine"] - items["cosine"].mean()) / items["cosine"].std()
        scores = sorted(set(bands.tolist()))
        means = [float(relative[bands == score].mean()) for score in scores]
        axis.plot(scores, means, color=colour, marker="o", label=label)
    axis.set(title=name, xlabel="similarity by people", ylabel="cosine (standard deviations)")
    axis.legend()
