"""InfoNCE: the positive is to be nearer to its anchor than every other sentence at hand."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.check import check, check_choice


def info_nce(
    logits: Float[Tensor, "queries keys"],
    positives: Int[Tensor, " queries"],
    excluded: Bool[Tensor, "queries keys"],
) -> Float[Tensor, " queries"]:
    r"""Negative log-likelihood, in nats, that each query's positive is drawn among the keys.

    .. math:: -\log \frac{e^{s_{p}}}{\sum_{j \notin E} e^{s_{j}}}

    (van den Oord et al. 2018, eq. 4; with cosines over a temperature: SimCSE, eq. 5, and Roth et al.) It is the top-1
    Plackett-Luce likelihood of the positive. Equal logits of N keys give ln N.

    Args:
        logits: Similarities over the temperature.
        positives: The key that is each query's positive.
        excluded: Keys that are neither negatives nor positive, such as copies of the query; the positive itself
            always counts.

    Example:
        >>> import torch
        >>> everything = torch.zeros(2, 4, dtype=torch.bool)
        >>> info_nce(torch.zeros(2, 4), torch.tensor([0, 1]), everything)  # ln 4
        tensor([1.3863, 1.3863])
    """
    is_positive = torch.arange(logits.shape[1], device=logits.device) == positives[:, None]
    kept = logits.masked_fill(excluded & ~is_positive, -torch.inf)
    return F.cross_entropy(kept, positives, reduction="none")


@dataclass(frozen=True)
class InfoNce:
    """InfoNCE over cosines.

    Attributes:
        temperature: Cosines are divided by it, above 0; SimCSE and PromptEOL use 0.05, Roth et al. 0.2.
        hard_negative_weight: Added to the logits of an anchor's own negatives, as if each stood there e^weight times:
            an option of SimCSE's code.
        symmetric: Also draw each anchor among all anchors, given its positive; the mean of both directions.

    Raises:
        UserError: If a parameter is out of its range.
    """

    temperature: float
    hard_negative_weight: float = 0.0
    symmetric: bool = False

    def __post_init__(self) -> None:
        """Check the parameters."""
        check("objective.loss.temperature", self.temperature, lambda value: 0 < value < math.inf, "above 0")
        check("objective.loss.hard_negative_weight", self.hard_negative_weight, math.isfinite, "a finite number")
        check_choice("objective.loss.symmetric", self.symmetric)

    def __call__(
        self,
        anchors: Float[Tensor, "anchors hidden"],
        candidates: Float[Tensor, "sentences hidden"],
        positives: Int[Tensor, " anchors"],
        own_negatives: Bool[Tensor, "anchors sentences"],
        excluded: Bool[Tensor, "anchors sentences"],
    ) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor (see `info_nce`), in float32 at least.

        Args:
            anchors: Embeddings.
            candidates: Embeddings of all positives and negatives.
            positives: Each anchor's positive among the candidates.
            own_negatives: Candidates that were given as negatives of the anchor.
            excluded: Candidates that say the same as an anchor or its positive, and so are no negatives of it.
        """
        dtype = torch.promote_types(anchors.dtype, torch.float32)
        cosines = F.normalize(anchors.to(dtype), dim=-1) @ F.normalize(candidates.to(dtype), dim=-1).T
        logits = cosines / self.temperature
        losses = info_nce(logits + self.hard_negative_weight * own_negatives, positives, excluded)
        if not self.symmetric:
            return losses
        own = torch.arange(len(anchors), device=anchors.device)
        return (losses + info_nce(logits[:, positives].T, own, excluded[:, positives].T)) / 2
