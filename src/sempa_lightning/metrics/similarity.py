"""How embeddings agree with each other and with people."""

from jaxtyping import Float
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
    """Spearman's rank correlation, -1 to 1; ties get their mean rank."""
    return float(spearman_corrcoef(predicted.double(), gold.double()))


def pearson(predicted: Float[Tensor, " pairs"], gold: Float[Tensor, " pairs"]) -> float:
    """Pearson's correlation, -1 to 1."""
    return float(pearson_corrcoef(predicted.double(), gold.double()))
