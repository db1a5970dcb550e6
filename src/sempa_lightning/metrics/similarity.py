"""How embeddings agree with each other and with people."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef


def cosine(
    first: Float[Tensor, "sentences hidden"], second: Float[Tensor, "sentences hidden"]
) -> Float[Tensor, " sentences"]:
    """Cosine of each pair of rows, in float32; 0 where a vector is zero."""
    return F.cosine_similarity(first.float(), second.float(), dim=-1)


def cosine_matrix(
    first: Float[Tensor, "queries hidden"], second: Float[Tensor, "sentences hidden"]
) -> Float[Tensor, "queries sentences"]:
    """Cosine of each row of the first with each row of the second, in float32."""
    return F.normalize(first.float(), dim=-1) @ F.normalize(second.float(), dim=-1).T


def spearman(predicted: Float[Tensor, " pairs"], gold: Float[Tensor, " pairs"]) -> float:
    """Spearman's rank correlation, -1 to 1; ties get their mean rank. NaN where it is undefined (see `defined`)."""
    return float(spearman_corrcoef(predicted.double(), gold.double())) if defined(predicted, gold) else math.nan


def pearson(predicted: Float[Tensor, " pairs"], gold: Float[Tensor, " pairs"]) -> float:
    """Pearson's correlation, -1 to 1. NaN where it is undefined (see `defined`)."""
    return float(pearson_corrcoef(predicted.double(), gold.double())) if defined(predicted, gold) else math.nan


def defined(predicted: Float[Tensor, " pairs"], gold: Float[Tensor, " pairs"]) -> bool:
    """Check that a correlation exists: all values are finite, and on neither side are all of them equal."""
    return all(bool(values.isfinite().all()) and _varies(values) for values in (predicted, gold))


def subset_means(
    correlation: Callable[[Tensor, Tensor], float],
    predicted: Float[Tensor, " pairs"],
    gold: Float[Tensor, " pairs"],
    subsets: Int[Tensor, " pairs"],
) -> tuple[float, float]:
    """SentEval's "mean" and "wmean": the mean of the subsets' own correlations, plain and weighted by their pairs.

    They differ from "all", the correlation of all pairs together, which also ranks pairs of unlike subsets against
    each other. A subset whose values are all equal, as a small one may be in a bootstrap sample, has no correlation
    and is left out; where none is left, both are NaN.
    """
    parts = [(predicted[subsets == subset], gold[subsets == subset]) for subset in sorted(set(subsets.tolist()))]
    parts = [(ours, people) for ours, people in parts if _varies(ours) and _varies(people)]
    values = torch.tensor([correlation(ours, people) for ours, people in parts], dtype=torch.float64)
    sizes = torch.tensor([len(ours) for ours, _ in parts], dtype=torch.float64)
    return float(values.mean()), float((values * sizes).sum() / sizes.sum())


def _varies(values: Float[Tensor, " pairs"]) -> bool:
    return bool((values != values[:1]).any())
