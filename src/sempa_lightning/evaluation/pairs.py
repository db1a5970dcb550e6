"""Paraphrase pairs: do they have a higher cosine than other pairs?"""

import torch

from sempa_lightning.data.labelled_texts import LabelledSource, read_labelled
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.classification import average_precision
from sempa_lightning.metrics.similarity import cosine


class PairClassification:
    """Average precision of cosine similarity: `cosine_ap` of MTEB's pair classification.

    MTEB's headline, `max_ap`, is the best of several similarities and so at least as high.

    Args:
        pairs: Pairs of texts.
        positive: The label of those that belong together.
    """

    def __init__(self, pairs: LabelledSource, positive: str = "1") -> None:
        self._pairs = pairs
        self._positive = positive

    @property
    def missing(self) -> str | None:
        """Why the pairs cannot be read, or None."""
        return self._pairs.missing

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode all texts; an item is a pair.

        Raises:
            UserError: If no pair has the positive label.
        """
        pairs = read_labelled(self._pairs, 2)
        gold = torch.tensor([int(pair.label == self._positive) for pair in pairs])
        if not gold.any():
            raise UserError(f"{self._pairs.name}: no pair has the label {self._positive!r}; name the one in `positive`")
        texts = [pair.texts[0] for pair in pairs] + [pair.texts[1] for pair in pairs]
        first, second = subject.embedder.encode(texts, progress).chunk(2)
        return Measurement(
            {"cosine": cosine(first, second), "gold": gold}, {"pairs": len(pairs), "positive": int(gold.sum())}
        )

    def metrics(self, items: Items) -> dict[str, float]:
        """Average precision, 0 to 1; what chance gives is the share of positive pairs."""
        return {"ap": average_precision(items["cosine"], items["gold"])}
