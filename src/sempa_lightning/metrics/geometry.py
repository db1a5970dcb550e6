"""How a set of embeddings fills its space: uniformity, alignment, isotropy, mean cosine, effective rank.

Each number has a function of the whole set. Uniformity, mean cosine, isotropy and effective rank also have one that
gives every sentence a value of its own, such that the number is a plain function of the values' mean. Sentences can
then be drawn with replacement without ever comparing a sentence with its own copy, which would put zero distances into
uniformity: the values linearise the number at the whole set, so that their spread gives its standard error to first
order (the jackknife of a U-statistic, Arvesen 1969; the infinitesimal jackknife, Jaeckel 1972).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Rows that are compared with all others at once.
_CHUNK = 1024


def uniformity(embeddings: Float[Tensor, "sentences hidden"]) -> float:
    """Log of the mean Gaussian potential of two different sentences; the lower, the more evenly spread.

    log E exp(-2 ‖f(x) - f(y)‖²) on unit vectors, over all pairs of distinct rows (Wang & Isola 2020, equation for
    L_uniform with t = 2); from -8 to 0, which is a collapsed set.

    Example:
        >>> round(uniformity(torch.eye(3)), 4)  # all distances are √2
        -4.0
    """
    return math.log(float(potential_values(embeddings).mean()))


def alignment(first: Float[Tensor, "pairs hidden"], second: Float[Tensor, "pairs hidden"]) -> float:
    """Mean squared distance of positive pairs on unit vectors, 0 to 4; the lower, the closer.

    E ‖f(x) - f(x⁺)‖² (Wang & Isola 2020, equation for L_align with alpha = 2).

    Example:
        >>> round(alignment(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])), 4)
        2.0
    """
    return float(squared_distances(first, second).mean())


def squared_distances(
    first: Float[Tensor, "pairs hidden"], second: Float[Tensor, "pairs hidden"]
) -> Float[Tensor, " pairs"]:
    """Squared distance of each pair of rows, scaled to unit length first."""
    return (_unit(first) - _unit(second)).square().sum(-1).float()


def mean_cosine(embeddings: Float[Tensor, "sentences hidden"]) -> float:
    """Mean cosine of two different sentences, over all pairs of distinct rows (Ethayarajh 2019, anisotropy).

    Example:
        >>> round(mean_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])), 4)
        0.3333
    """
    return float(cosine_values(embeddings).mean())


def isotropy(embeddings: Float[Tensor, "sentences hidden"]) -> float:
    """How alike all directions look to the set, 0 to 1: the partition function's smallest value over its largest.

    I ≈ min_j Z(u_j) / max_j Z(u_j) with Z(c) = Σ_s exp(cᵀv(s)) and u_j the eigenvectors of VᵀV (Mu & Viswanath 2018,
    equation 6), those of eigenvalue 0 included. An eigenvector's sign is a matter of convention: here it is the one
    with the larger Z, so that the number depends neither on a rotation nor on the linear algebra library. Vectors are
    taken as they are, and their length matters; SemPA's Table 5 can only come from unit vectors (for a set with a
    common direction the number is then near exp(-√(mean cosine))).

    Example:
        >>> round(isotropy(torch.tensor([[1.0, 0.0], [1.0, 0.0]])), 4)  # Z is 2e along the set and 2 across
        0.3679
    """
    lowest, highest = _extremes(_axes(embeddings.double()))
    return float((lowest.logsumexp(0) - highest.logsumexp(0)).exp())


def effective_rank(embeddings: Float[Tensor, "sentences hidden"]) -> float:
    """How many directions the set uses, 1 to min(sentences, hidden): exp of the entropy of its singular values' shares.

    Roy & Vetterli 2007, definition 1, on the rows as they are, not centred; 0 for a set of zero vectors. A set of few
    sentences has a low one whatever the model: compare sets of one size only.

    Example:
        >>> round(effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))), 4)
        2.0
    """
    values = _axes(embeddings.double()).singular_values
    return float(_entropy(values).exp()) if values.any() else 0.0


def potential_values(embeddings: Float[Tensor, "sentences hidden"]) -> Float[Tensor, " sentences"]:
    """A value for each sentence; the log of their mean is `uniformity`. Memory is linear in the sentences."""
    return _pair_values(embeddings, lambda cosines: (4 * (cosines - 1)).exp())


def cosine_values(embeddings: Float[Tensor, "sentences hidden"]) -> Float[Tensor, " sentences"]:
    """A value for each sentence; their mean is `mean_cosine`. Memory is linear in the sentences."""
    return _pair_values(embeddings, lambda cosines: cosines)


def partition_values(embeddings: Float[Tensor, "sentences hidden"]) -> Float[Tensor, "sentences 2"]:
    """Each sentence's part of the smallest and of the largest Z; the ratio of their means is `isotropy`.

    Both are divided by one constant for safety: only ratios of them have a meaning.
    """
    both = torch.stack(_extremes(_axes(embeddings.double())), -1)
    return (both - both.max()).exp()


def entropy_values(embeddings: Float[Tensor, "sentences hidden"]) -> Float[Tensor, " sentences"]:
    """A value for each sentence; exp of their mean is `effective_rank`.

    Entropy of the whole set, plus what one more copy of the sentence would change, to first order: an eigenvalue of
    VᵀV grows by (u_jᵀv)², a singular value s_j by (u_jᵀv)² / 2s_j, and ∂H/∂s_j = -(log p_j + H) / Σs.
    """
    projections, values = _axes(embeddings.double())
    used = values > values.max() * torch.finfo(torch.float64).eps * max(embeddings.shape)
    projections, values = projections[:, used], values[used]
    entropy = _entropy(values)
    slopes = -((values / values.sum()).log() + entropy) / (2 * values * values.sum())
    return entropy + len(embeddings) * (projections.square() @ slopes)


class _Axes(NamedTuple):
    """A set seen along the eigenvectors of VᵀV.

    Attributes:
        projections: u_jᵀv(s), with the sign of u_j as it comes; one column of zeros stands for all eigenvectors of
            eigenvalue 0 that the decomposition leaves out.
        singular_values: Roots of the eigenvalues.
    """

    projections: Float[Tensor, "sentences axes"]
    singular_values: Float[Tensor, " axes"]


def _axes(embeddings: Float[Tensor, "sentences hidden"]) -> _Axes:
    left, values, _ = torch.linalg.svd(embeddings, full_matrices=False)
    projections = left * values
    if len(values) < embeddings.shape[1]:
        projections, values = F.pad(projections, (0, 1)), F.pad(values, (0, 1))
    return _Axes(projections, values)


def _extremes(axes: _Axes) -> tuple[Float[Tensor, " sentences"], Float[Tensor, " sentences"]]:
    """The sentences' exponents along the axis of the smallest Z and along that of the largest."""
    positive, negative = axes.projections.logsumexp(0), (-axes.projections).logsumexp(0)
    exponents = torch.where(positive >= negative, axes.projections, -axes.projections)
    partition = torch.maximum(positive, negative)
    return exponents[:, partition.argmin()], exponents[:, partition.argmax()]


def _entropy(singular_values: Float[Tensor, " axes"]) -> Float[Tensor, ""]:
    shares = singular_values / singular_values.sum()
    return -torch.xlogy(shares, shares).sum()


def _pair_values(
    embeddings: Float[Tensor, "sentences hidden"], of_cosines: Callable[[Tensor], Tensor]
) -> Float[Tensor, " sentences"]:
    """Jackknife pseudo-values of U, the mean over all pairs of distinct rows: n·U - (n - 1)·(U without the row).

    For a U-statistic of pairs this is U + 2 (n - 1) / (n - 2) · (the row's mean with the others - U); their mean is U.
    """
    unit = _unit(embeddings)
    means = torch.cat(list(_means_with_others(unit, of_cosines)))
    over_pairs = means.mean()
    return over_pairs + 2 * (len(unit) - 1) / max(len(unit) - 2, 1) * (means - over_pairs)


def _means_with_others(
    unit: Float[Tensor, "sentences hidden"], of_cosines: Callable[[Tensor], Tensor]
) -> Iterator[Float[Tensor, " chunk"]]:
    """For each row the mean over all other rows."""
    for at in range(0, len(unit), _CHUNK):
        values = of_cosines(unit[at : at + _CHUNK] @ unit.T)
        values.diagonal(at).zero_()
        yield values.sum(-1) / (len(unit) - 1)


def _unit(embeddings: Float[Tensor, "sentences hidden"]) -> Float[Tensor, "sentences hidden"]:
    return F.normalize(embeddings.double(), dim=-1)
