"""Standard errors and intervals from the items in a folder, where a number can be made again from them."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from sempa_lightning.evaluation.task import Items

Array = Any  # an array or, of one sample, a number; numpy's own hints cannot say which
Columns = Mapping[str, Array]
Statistic = Callable[[Columns], Array]

_WEIGHTS = ("tokens", "weight", "count")
_CHUNK = 100


class Interval(NamedTuple):
    """Spread of a change: standard error, and the 95 % interval."""

    se: float
    low: float
    high: float


def paired_interval(before: Items, after: Items, old: float, new: float, draws: int) -> Interval | None:
    """Bootstrap the change of a number over items, the same draws for before and after.

    A folder holds numbers and items but not the formula between them. So the formulas that are common are tried: the
    mean of a column, a ratio of two sums and its exponential, Spearman's and Pearson's correlation of `cosine` with
    `gold`. One is used only if it gives both numbers again (to a relative 1e-4); else there is no interval.

    Args:
        before: Items of the one subject.
        after: The same items of the other.
        old: The number of the one subject.
        new: The number of the other.
        draws: Bootstrap samples; drawn with a fixed seed.
    """
    first, second = _columns(before), _columns(after)
    if not first or not _paired(first, second):
        return None
    for statistic in _statistics(first):
        if _gives(statistic, first, old) and _gives(statistic, second, new):
            return _bootstrap(statistic, first, second, draws)
    return None


def _columns(items: Items) -> dict[str, Array]:
    return {name: values.double().numpy() for name, values in items.items() if values.ndim == 1}


def _paired(first: Columns, second: Columns) -> bool:
    """Whether both hold the same columns of the same length, and the same gold values if any."""
    if first.keys() != second.keys() or len({len(values) for values in [*first.values(), *second.values()]}) != 1:
        return False
    return "gold" not in first or bool(np.array_equal(first["gold"], second["gold"]))


def _statistics(columns: Columns) -> Iterator[Statistic]:
    for name in columns:
        yield partial(_mean, name)
    for weight in _WEIGHTS:
        if weight in columns:
            for name in columns:
                yield partial(_ratio, name, weight)
                yield partial(_exponential_ratio, name, weight)
    if {"cosine", "gold"} <= columns.keys():
        yield _spearman
        yield _pearson


def _mean(name: str, drawn: Columns) -> Array:
    return drawn[name].mean(-1)


def _ratio(name: str, weight: str, drawn: Columns) -> Array:
    return drawn[name].sum(-1) / drawn[weight].sum(-1)


def _exponential_ratio(name: str, weight: str, drawn: Columns) -> Array:
    return np.exp(_ratio(name, weight, drawn))


def _spearman(drawn: Columns) -> Array:
    return _correlation(rankdata(drawn["cosine"], axis=-1), rankdata(drawn["gold"], axis=-1))


def _pearson(drawn: Columns) -> Array:
    return _correlation(drawn["cosine"], drawn["gold"])


def _correlation(x: Array, y: Array) -> Array:
    """Pearson's correlation along the last axis; nan where one of the two does not vary."""
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))


def _gives(statistic: Statistic, columns: Columns, number: float) -> bool:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return bool(np.isclose(statistic(columns), number, rtol=1e-4, atol=1e-7))


def _bootstrap(statistic: Statistic, first: Columns, second: Columns, draws: int) -> Interval:
    generator = np.random.default_rng(0)
    count = len(next(iter(first.values())))
    changes = []
    for start in range(0, draws, _CHUNK):
        drawn = generator.integers(count, size=(min(_CHUNK, draws - start), count))
        old, new = (statistic({name: values[drawn] for name, values in each.items()}) for each in (first, second))
        changes.append(new - old)
    found = np.concatenate(changes)
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return Interval(float(np.nanstd(found, ddof=1)), float(low), float(high))
