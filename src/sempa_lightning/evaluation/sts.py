"""Semantic textual similarity: does the cosine of two embeddings rank pairs as people do?"""

import torch

from sempa_lightning.data.scored_pairs import PairSource
from sempa_lightning.evaluation.task import Items, Progress, Subject
from sempa_lightning.metrics.similarity import cosine, pearson, spearman
from sempa_lightning.models.embedder import Embedder


class Sts:
    """Spearman and Pearson correlation of cosine similarity with gold scores.

    Args:
        pairs: The benchmark.
    """

    def __init__(self, pairs: PairSource) -> None:
        self._pairs = pairs

    @property
    def missing(self) -> str | None:
        """Why the pairs cannot be read, or None."""
        return self._pairs.missing

    def run(self, subject: Subject, progress: Progress) -> Items:
        """Encode all sentences; an item is a pair."""
        pairs = list(self._pairs)
        embedder = Embedder(subject.model, subject.tokenizer, subject.readout)
        sentences = [pair.sentence1 for pair in pairs] + [pair.sentence2 for pair in pairs]
        first, second = embedder.encode(sentences, progress).chunk(2)
        return {"cosine": cosine(first, second), "gold": torch.tensor([pair.score for pair in pairs])}

    def metrics(self, items: Items) -> dict[str, float]:
        """Correlations, -1 to 1."""
        predicted, gold = items["cosine"], items["gold"]
        return {"spearman": spearman(predicted, gold), "pearson": pearson(predicted, gold)}
