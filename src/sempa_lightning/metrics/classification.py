"""How well classes, or a score of one class, agree with the labels that people gave."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def accuracy(predicted: Int[Tensor, " items"], gold: Int[Tensor, " items"]) -> float:
    """Share of items with the right class."""
    return float((predicted == gold).double().mean())


def f1(predicted: Int[Tensor, " items"], gold: Int[Tensor, " items"], positive: int = 1) -> float:
    """Harmonic mean of precision and recall of one class, 0 where it is neither predicted nor there."""
    ours, people = predicted == positive, gold == positive
    found = int(ours.sum()) + int(people.sum())
    return 2 * int((ours & people).sum()) / found if found else 0.0


def macro_f1(predicted: Int[Tensor, " items"], gold: Int[Tensor, " items"]) -> float:
    """Mean F1 of the classes that are predicted or there."""
    classes = set(predicted.tolist()) | set(gold.tolist())
    return sum(f1(predicted, gold, positive) for positive in classes) / len(classes)


def average_precision(scores: Float[Tensor, " items"], gold: Int[Tensor, " items"]) -> float:
    """Mean over the positive items of the precision among all items that score as high, or higher.

    Items of equal score share a rank, so that their order does not count. NaN where nothing is positive.
    """
    order = scores.argsort(descending=True)
    ordered, hits = scores[order], gold[order].double().cumsum(0)
    last_of_ties = torch.cat([ordered[1:] != ordered[:-1], ordered.new_ones(1, dtype=torch.bool)]).nonzero()[:, 0]
    found = hits[last_of_ties]
    gained = found.diff(prepend=found.new_zeros(1))
    return float((gained * found / (last_of_ties + 1)).sum() / hits[-1])
