"""Standard errors by resampling the items of a task."""

import math
from collections.abc import Callable

import torch

from sempa_lightning.evaluation.task import Items


def change_standard_errors(
    metrics: Callable[[Items], dict[str, float]], before: Items, after: Items, resamples: int = 200
) -> dict[str, float]:
    """Standard error of each metric's change, by a paired bootstrap over the items.

    The same items are drawn for before and after, so that what they have in common cancels. A sample on which a metric
    is not finite, such as one of equal pairs, is left out for that metric; a metric without two samples has no error.

    Args:
        metrics: Computes the numbers from (a sample of) the items.
        before: One value for each item.
        after: The same items, measured again.
        resamples: Bootstrap samples; drawn with a fixed seed.
    """
    count = len(next(iter(before.values())))
    generator = torch.Generator().manual_seed(0)
    changes: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = torch.randint(count, (count,), generator=generator)
        old = metrics({name: values[drawn] for name, values in before.items()})
        new = metrics({name: values[drawn] for name, values in after.items()})
        for name in old:
            if math.isfinite(new[name] - old[name]):
                changes.setdefault(name, []).append(new[name] - old[name])
    return {
        name: float(torch.tensor(values, dtype=torch.float64).std())
        for name, values in changes.items()
        if len(values) > 1
    }
