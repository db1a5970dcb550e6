"""Embedding what is not there yet."""

from itertools import islice

import torch

from sempa_lightning.embedding.corpus import Corpus
from sempa_lightning.embedding.parts import About, Parts, write_part
from sempa_lightning.embedding.progress import Progress
from sempa_lightning.models.embedder import Embedder


def write_rest(
    parts: Parts,
    corpus: Corpus,
    embedder: Embedder,
    weights: str,
    *,
    dtype: torch.dtype,
    keep_text: bool,
    progress: Progress,
) -> None:
    """Write the parts of this process's share that are missing.

    The corpus is read through once; one part of it is in memory at a time. The texts of a part are embedded in one
    call, so that its vectors follow from its texts alone.

    Args:
        parts: Where they go.
        corpus: The texts.
        embedder: Has no cache, whose vectors may have been computed beside other texts.
        weights: A name for what its model computes.
        dtype: Dtype of the vectors on disk.
        keep_text: Whether texts are written beside their vectors.
        progress: Is told what is done.

    Raises:
        UserError: If a vector is not finite.
    """
    texts, rest = iter(corpus), set(parts.rest)
    for number in parts.all[: max(rest) + 1]:
        of_part = list(islice(texts, len(parts.rows(number))))
        if number in rest:
            vectors, truncated = embedder.embed(of_part, progress.batches)
            about = About(parts.survey.fingerprint, weights, vectors.shape[1], truncated)
            kept = of_part if keep_text else None
            write_part(parts.folder.part(number), parts.rows(number), kept, vectors.to(dtype), about)
            progress.tell()
