"""Do embeddings decode to the tokens of their own sentences?"""

from jaxtyping import Bool, Int
from torch import Tensor

Surface = Int[Tensor, "sentences width"]
Decoded = Int[Tensor, "sentences top"]


def global_alignment_rate(decoded: Decoded, surface: Surface) -> float:
    """Share of all distinct surface tokens that their own sentence's embedding decodes to, 0 to 1.

    GAR = |union of (T̂ᴷ_s ∩ T_s)| / |union of T_s| over sentences s (Nie et al. 2025; SemPA, Table 7). A token counts as
    soon as one sentence that holds it decodes to it, so the rate grows with the number of sentences: compare equal sets
    only. The authors' code also counts special tokens to T_s, and takes fewer than K tokens where a sentence has fewer.

    Args:
        decoded: The K tokens that each embedding decodes to.
        surface: Distinct tokens of each sentence, filled up with -1.

    Example:
        >>> import torch
        >>> global_alignment_rate(torch.tensor([[5, 6], [7, 9]]), torch.tensor([[5, 7, 8], [6, 7, -1]]))
        0.5
    """
    found, own = surface[_hits(decoded, surface)], surface[surface >= 0]
    return len(set(found.tolist())) / max(len(set(own.tolist())), 1)


def local_alignment_rate(decoded: Decoded, surface: Surface) -> float:
    """Mean over sentences of the share of their distinct tokens that are decoded, 0 to 1 (Nie et al. 2025, LAR).

    As in the authors' code at most K tokens are decoded, so that long sentences cannot reach 1. Sentences without a
    token do not count.

    Example:
        >>> import torch
        >>> local_alignment_rate(torch.tensor([[5, 6], [7, 9]]), torch.tensor([[5, 7, 8], [6, 7, -1]]))
        0.41666...
    """
    counts = (surface >= 0).sum(-1)
    shares = _hits(decoded, surface).sum(-1) / counts
    return float(shares[counts > 0].double().mean())


def hit_rate(decoded: Decoded, surface: Surface) -> float:
    """Share of sentences whose embedding decodes to at least one of their tokens, 0 to 1 (Nie et al. 2025, Hit@K)."""
    return float(_hits(decoded, surface).any(-1)[(surface >= 0).any(-1)].double().mean())


def _hits(decoded: Decoded, surface: Surface) -> Bool[Tensor, "sentences width"]:
    """Which surface tokens are among the decoded ones."""
    return (surface[:, :, None] == decoded[:, None, :]).any(-1) & (surface >= 0)
