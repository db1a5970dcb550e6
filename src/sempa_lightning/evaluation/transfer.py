"""SentEval's transfer tasks: what does a linear classifier find in frozen embeddings?"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sempa_lightning.data.labelled_texts import LabelledSource, LabelledText, read_labelled
from sempa_lightning.data.missing import why_missing
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.linear_probe import ProbeSpec
from sempa_lightning.evaluation.senteval import Predicted, development_set, folds_of_training, inner_folds
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.classification import accuracy, f1


class Transfer:
    """Accuracy of logistic regression on embeddings, by SentEval's published protocol (see `senteval.py`).

    A text's features are its embedding; those of a pair (u, v) are [|u - v|, u * v]. SentEval rounds the accuracy of
    each fold to 0.01 % and takes their mean; this is the exact share of all test rows.

    Args:
        train: Training part, or the whole set where there is no other: each row is then tested once.
        test: Test part.
        dev: Development part; none: `folds` take its place.
        pairs: Whether two texts belong to each label. F1 of the second label is then reported, too.
        folds: Of each cross-validation.
        seed: Of the classifier and, with a test part, of the folds.
    """

    def __init__(
        self,
        train: LabelledSource,
        test: LabelledSource | None = None,
        dev: LabelledSource | None = None,
        *,
        pairs: bool = False,
        folds: int = 10,
        seed: int = 1111,
    ) -> None:
        if dev is not None and test is None:
            raise UserError("a transfer task with a development part needs a test part, too: give `test`")
        parts = {"train": train, "dev": dev, "test": test}
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self._texts = 2 if pairs else 1
        self._folds = folds
        self._spec = ProbeSpec(seed)

    @property
    def missing(self) -> str | None:
        """Why a part cannot be read, or None."""
        return why_missing(*self._parts.values())

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode all texts, train and choose the classifiers; an item is a test row.

        Raises:
            UserError: If a label has too few training rows for the folds.
        """
        parts = {name: _ordered(read_labelled(part, self._texts)) for name, part in self._parts.items()}
        rows = [row for part in parts.values() for row in part]
        names = sorted({row.label for row in rows})
        labels = torch.tensor([names.index(row.label) for row in rows])
        sizes = {name: len(part) for name, part in parts.items()}
        if "dev" not in sizes:
            self._check_folds(names, labels[: sizes["train"]].bincount(minlength=len(names)).tolist())
        texts = [row.texts[place] for place in range(self._texts) for row in rows]
        vectors = subject.embedder.encode(texts, progress)
        predicted = self._predicted(_features(vectors.chunk(self._texts)), labels, sizes)
        items = {"predicted": predicted.classes, "gold": labels[-len(predicted.classes) :]}
        return Measurement(items, {"rows": sizes, "labels": names, "l2": predicted.penalties})

    def metrics(self, items: Items) -> dict[str, float]:
        """Accuracy, 0 to 1; of pairs also F1."""
        values = {"accuracy": accuracy(items["predicted"], items["gold"])}
        if self._texts > 1:
            values["f1"] = f1(items["predicted"], items["gold"])
        return values

    def _predicted(
        self, features: Float[Tensor, "rows features"], labels: Int[Tensor, " rows"], sizes: Mapping[str, int]
    ) -> Predicted:
        if "test" not in sizes:
            return inner_folds(features, labels, self._folds, self._spec)
        known = len(labels) - sizes["test"]
        if "dev" in sizes:
            return development_set(features[:known], labels[:known], sizes["train"], features[known:], self._spec)
        return folds_of_training(features[:known], labels[:known], features[known:], self._folds, self._spec)

    def _check_folds(self, names: Sequence[str], counts: Sequence[int]) -> None:
        # Inner folds are made of what the outer ones leave.
        least = self._folds if "test" in self._parts else self._folds + 2
        for name, count in zip(names, counts, strict=True):
            if count < least:
                raise UserError(
                    f"{self._parts['train'].name}: label {name!r} has {count} rows, but {self._folds} folds take"
                    f" {least}; give fewer folds"
                )


def _ordered(rows: Sequence[LabelledText]) -> list[LabelledText]:
    """SentEval's order of the rows, which the folds depend on: by number of words, then by label."""
    return sorted(rows, key=lambda row: (*(len(text.split()) for text in row.texts), row.label))


def _features(columns: Sequence[Float[Tensor, "rows hidden"]]) -> Float[Tensor, "rows features"]:
    if len(columns) == 1:
        return columns[0]
    first, second = columns
    return torch.cat([(first - second).abs(), first * second], 1)
