"""How well clusters agree with classes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def v_measure(clusters: Int[Tensor, " items"], gold: Int[Tensor, " items"]) -> float:
    """V-measure, 0 to 1 (Rosenberg and Hirschberg, 2007, beta = 1).

    The harmonic mean of homogeneity, 1 - H(class | cluster) / H(class), and completeness,
    1 - H(cluster | class) / H(cluster): what both have in common, relative to the mean of their entropies.
    """
    joint = torch.zeros(int(clusters.max()) + 1, int(gold.max()) + 1, dtype=torch.float64)
    joint.index_put_((clusters, gold), torch.ones((), dtype=torch.float64), accumulate=True)
    both, ours, people = (_entropy(counts) for counts in (joint.flatten(), joint.sum(1), joint.sum(0)))
    if ours + people == 0:
        return 1.0
    return max(0.0, 2 * (ours + people - both) / (ours + people))


def _entropy(counts: Float[Tensor, " cells"]) -> float:
    """Entropy of a distribution given by counts, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return -float((shares * shares.log()).sum())
