"""Semantic textual similarity: does the cosine of two embeddings rank pairs as people do?"""

from typing import Any

import torch
from torch import Tensor

from sempa_lightning.data.scored_pairs import PairSource
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.similarity import cosine, pearson, spearman, subset_means


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

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode all sentences; an item is a pair, and says which subset it belongs to where there are several.

        Raises:
            UserError: If there are fewer than two pairs, or all have the same gold score.
        """
        pairs = list(self._pairs)
        if len(pairs) < 2:  # noqa: PLR2004 (a correlation needs two)
            raise UserError(f"a correlation needs two pairs or more, but the benchmark has {len(pairs)}")
        if len({pair.score for pair in pairs}) == 1:
            raise UserError(f"all gold scores are {pairs[0].score:g}, so that a correlation is undefined")
        embedder = subject.embedder
        sentences = [pair.sentence1 for pair in pairs] + [pair.sentence2 for pair in pairs]
        first, second = embedder.encode(sentences, progress).chunk(2)
        items = {"cosine": cosine(first, second), "gold": torch.tensor([pair.score for pair in pairs])}
        names = sorted({pair.subset for pair in pairs})
        if len(names) == 1:
            return Measurement(items, {"pairs": len(pairs)})
        items["subset"] = torch.tensor([names.index(pair.subset) for pair in pairs])
        return Measurement(items, {"pairs": len(pairs), "subsets": _by_subset(items, names)})

    def metrics(self, items: Items) -> dict[str, float]:
        """Correlations, -1 to 1, of all pairs together; of subsets also `…_mean`, `…_wmean` (see `subset_means`)."""
        predicted, gold, subsets = items["cosine"], items["gold"], items.get("subset")
        values = {}
        for name, correlation in (("spearman", spearman), ("pearson", pearson)):
            values[name] = correlation(predicted, gold)
            if subsets is not None:
                values[f"{name}_mean"], values[f"{name}_wmean"] = subset_means(correlation, predicted, gold, subsets)
        return values


def _by_subset(items: dict[str, Tensor], names: list[str]) -> dict[str, Any]:
    """Pairs and Spearman correlation of each subset."""
    members = {name: items["subset"] == number for number, name in enumerate(names)}
    return {
        name: {"pairs": int(mask.sum()), "spearman": spearman(items["cosine"][mask], items["gold"][mask])}
        for name, mask in members.items()
    }
