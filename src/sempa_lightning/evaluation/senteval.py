"""SentEval's protocols for choosing a classifier's L2 penalty (`senteval/tools/validation.py`, commit 5d6dc11).

Which one applies depends on what a data set consists of: one part, training and test, or training, development and
test. The grid is that of the code, 10^-5 to 10^-2 (`range(-5, -1)` leaves out 10^-1).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from sempa_lightning.evaluation.linear_probe import Probes, ProbeSpec, Split, fit_probes, predict

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
_HELD_OUT = 0.05
_OUTER_SEED = 1111


class Predicted(NamedTuple):
    """What the chosen classifiers say.

    Attributes:
        classes: Of each test row.
        penalties: Chosen ones, one for each classifier.
    """

    classes: Int[Tensor, " rows"]
    penalties: list[float]


def inner_folds(
    features: Float[Tensor, "rows features"], labels: Int[Tensor, " rows"], folds: int, spec: ProbeSpec
) -> Predicted:
    """One part (MR, CR, SUBJ, MPQA): nested cross-validation; every row is tested once (`InnerKFoldClassifier`)."""
    gold = labels.numpy()
    outer = _folds(gold, np.arange(len(gold)), folds, _OUTER_SEED)
    inner = [split for rows, _ in outer for split in _splits(gold, rows, folds, _OUTER_SEED)]
    probes = fit_probes(features, labels, inner, _grid(len(inner)), spec)
    chosen = [_best(probes.accuracy[at : at + folds]) for at in range(0, len(inner), folds)]
    final = [Split.holding_out(rows, _HELD_OUT, spec.seed) for rows, _ in outer]
    probes = fit_probes(features, labels, final, _column(chosen), spec)
    classes = torch.empty_like(labels)
    for (_, test), weights in zip(outer, probes.weights, strict=True):
        classes[test] = predict(features[test], weights[0])
    return Predicted(classes, chosen)


def folds_of_training(
    features: Float[Tensor, "rows features"],
    labels: Int[Tensor, " rows"],
    test: Float[Tensor, "test_rows features"],
    folds: int,
    spec: ProbeSpec,
) -> Predicted:
    """Training and test (TREC, MRPC): cross-validation on the training part (`KFoldClassifier`)."""
    rows = np.arange(len(labels))
    splits = _splits(labels.numpy(), rows, folds, spec.seed)
    chosen = _best(fit_probes(features, labels, splits, _grid(folds), spec).accuracy)
    final = Split.holding_out(rows, _HELD_OUT, spec.seed)
    probes = fit_probes(features, labels, [final], _column([chosen]), spec)
    return Predicted(predict(test, probes.weights[0, 0]), [chosen])


def development_set(
    features: Float[Tensor, "rows features"],
    labels: Int[Tensor, " rows"],
    training_rows: int,
    test: Float[Tensor, "test_rows features"],
    spec: ProbeSpec,
) -> Predicted:
    """Training, development and test (SST-2): the penalty that is best on the second (`SplitClassifier`).

    Args:
        features: Of the training rows, then of the development rows.
        labels: Of the same rows.
        training_rows: How many of them are training rows.
        test: Features of the test rows.
        spec: How to train.
    """
    split = Split(np.arange(training_rows), np.arange(training_rows, len(labels)))
    probes: Probes = fit_probes(features, labels, [split], _grid(1), spec)
    chosen = _best(probes.accuracy)
    # SentEval trains once more with the chosen penalty; from the same seed that gives the same classifier.
    return Predicted(predict(test, probes.weights[0, PENALTIES.index(chosen)]), [chosen])


def _folds(
    labels: NDArray[np.int64], rows: NDArray[np.int64], folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    return [(rows[train], rows[test]) for train, test in splitter.split(rows, labels[rows])]


def _splits(labels: NDArray[np.int64], rows: NDArray[np.int64], folds: int, seed: int) -> list[Split]:
    return [Split(train, dev) for train, dev in _folds(labels, rows, folds, seed)]


def _best(accuracy: Float[Tensor, "splits penalties"]) -> float:
    """The smallest of the penalties whose mean accuracy, in percent to two decimals, is highest."""
    scores = np.round(100 * accuracy.numpy().mean(0), 2)
    return PENALTIES[int(scores.argmax())]


def _grid(splits: int) -> Float[Tensor, "splits penalties"]:
    return torch.tensor(PENALTIES, dtype=torch.float64).expand(splits, -1)


def _column(penalties: Sequence[float]) -> Float[Tensor, "splits 1"]:
    return torch.tensor(penalties, dtype=torch.float64)[:, None]
