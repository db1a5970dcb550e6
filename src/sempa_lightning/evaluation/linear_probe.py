"""SentEval's classifier, a logistic regression trained by Adam, for many splits and penalties at once.

The semantics are those of `senteval/tools/classifier.py` (facebookresearch/SentEval, commit 5d6dc11, `nhid=0`), down to
the random stream: each classifier starts from the same seed, so that classifiers of equally many training rows have
the same initial weights and see their rows in the same order. They are trained together, as one batched product.

Cost: the 410 classifiers of MR (10,662 rows, nested ten folds) take 25 s of one CPU core at width 256, as measured on
random features, and time grows with the width. Memory: one batch of 64 rows for each of the 100 inner splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class ProbeSpec:
    """How a classifier is trained; the defaults are those of the published numbers.

    Attributes:
        seed: Of initial weights and order of rows.
        batch_size: Rows of a step; the loss is their mean.
        epoch_size: Passes over the training rows between two looks at the development rows.
        tenacity: Looks without a better accuracy that are forgiven, in all; the next one ends the training.
        max_epochs: No training goes on after more passes than these.
        learning_rate: Adam's.
    """

    seed: int = 1111
    batch_size: int = 64
    epoch_size: int = 4
    tenacity: int = 5
    max_epochs: int = 200
    learning_rate: float = 1e-3


class Split(NamedTuple):
    """Rows that a classifier learns from and rows that say when to stop.

    Attributes:
        train: Training rows in their order, which counts: the random order of a pass is one of places in it.
        dev: Development rows.
        drawn: Length of a random order that was drawn first, from the same random stream; 0 if none was.
    """

    train: NDArray[np.int64]
    dev: NDArray[np.int64]
    drawn: int = 0

    @classmethod
    def holding_out(cls, rows: NDArray[np.int64], share: float, seed: int) -> "Split":
        """Hold out a random share of the rows for development."""
        order = np.random.RandomState(seed).permutation(len(rows))
        held_out = int(share * len(rows))
        return cls(rows[order[held_out:]], rows[order[:held_out]], len(rows))


class Probes(NamedTuple):
    """Trained classifiers, each as it was when its development accuracy was highest.

    Attributes:
        accuracy: Development accuracy, 0 to 1.
        weights: Inputs are the features, then a one for the bias.
    """

    accuracy: Float[Tensor, "splits penalties"]
    weights: Float[Tensor, "splits penalties classes inputs"]


def fit_probes(
    features: Float[Tensor, "rows features"],
    labels: Int[Tensor, " rows"],
    splits: Sequence[Split],
    penalties: Float[Tensor, "splits penalties"],
    spec: ProbeSpec,
) -> Probes:
    """Train one classifier for each split and each of its L2 penalties.

    Args:
        features: Of all rows.
        labels: Of all rows, from 0 to the number of classes - 1.
        splits: Which rows each classifier gets.
        penalties: Added to Adam's gradient as penalty · weight, bias included.
        spec: How to train.
    """
    data = _Data(_with_bias(features), F.one_hot(labels).to(features.dtype), labels)
    alike = sorted(range(len(splits)), key=lambda at: (len(splits[at].train), splits[at].drawn))
    places: list[int] = []
    parts: list[Probes] = []
    for _, members in groupby(alike, key=lambda at: (len(splits[at].train), splits[at].drawn)):
        chosen = list(members)
        places += chosen
        parts.append(_Training(data, [splits[at] for at in chosen], penalties[chosen], spec).run())
    back = torch.tensor(places).argsort()
    accuracy, weights = (torch.cat(values)[back] for values in zip(*parts, strict=True))
    return Probes(accuracy, weights)


def predict(features: Float[Tensor, "rows features"], weights: Float[Tensor, "classes inputs"]) -> Int[Tensor, " rows"]:
    """Most probable class of each row."""
    return (_with_bias(features) @ weights.T).argmax(-1)


class _Data(NamedTuple):
    inputs: Float[Tensor, "rows inputs"]
    targets: Float[Tensor, "rows classes"]
    labels: Int[Tensor, " rows"]


class _Training:
    """Classifiers of equally many training rows, in step with each other; those that have stopped are put aside.

    Weights lie as [splits, classes, penalties, inputs], so that products and the softmax run over long rows of memory:
    seven times faster than [inputs, classes] on a CPU.
    """

    def __init__(
        self, data: _Data, splits: Sequence[Split], penalties: Float[Tensor, "splits penalties"], spec: ProbeSpec
    ) -> None:
        self._data = data
        self._splits = splits
        self._spec = spec
        self._rng = np.random.RandomState(spec.seed)
        if splits[0].drawn:
            self._rng.permutation(splits[0].drawn)
        classes, inputs = data.targets.shape[1], data.inputs.shape[1]
        # Splits that are still trained; the tensors up to `_running` have one row for each of these.
        self._live = list(range(len(splits)))
        self._rows = torch.stack([torch.from_numpy(split.train) for split in splits])
        self._penalties = penalties.to(data.inputs.dtype)[:, None, :, None]
        first = _initial_weights(inputs - 1, classes, spec.seed).to(data.inputs.dtype)
        self._weights = first[:, None].repeat(len(splits), 1, penalties.shape[1], 1)
        self._mean = torch.zeros_like(self._weights)
        self._square = torch.zeros_like(self._weights)
        self._misses = torch.zeros(penalties.shape, dtype=torch.long)
        self._running = torch.ones(penalties.shape, dtype=torch.bool)
        # All splits.
        self._best_hits = torch.full(penalties.shape, -1)
        self._best = self._weights.clone()
        self._steps = 0

    @torch.no_grad()
    def run(self) -> Probes:
        """Train until the last classifier has stopped."""
        epochs = 0
        while self._live and epochs <= self._spec.max_epochs:
            for _ in range(self._spec.epoch_size):
                self._pass()
            epochs += self._spec.epoch_size
            self._look()
        sizes = torch.tensor([len(split.dev) for split in self._splits], dtype=torch.float64)
        return Probes(self._best_hits / sizes[:, None], self._best.transpose(1, 2))

    def _pass(self) -> None:
        order = torch.from_numpy(self._rng.permutation(self._rows.shape[1]))
        for at in range(0, len(order), self._spec.batch_size):
            self._step(self._rows[:, order[at : at + self._spec.batch_size]])

    def _step(self, rows: Int[Tensor, "live batch"]) -> None:
        """One step of Adam on the mean cross-entropy."""
        inputs, targets = (values.index_select(0, rows.flatten()).view(*rows.shape, -1) for values in self._data[:2])
        logits = torch.bmm(self._weights.flatten(1, 2), inputs.mT).view(*self._weights.shape[:3], -1)
        errors = (logits.softmax(1) - targets.mT[:, :, None]) / rows.shape[1]
        gradient = torch.bmm(errors.flatten(1, 2), inputs).view_as(self._weights)
        gradient.addcmul_(self._penalties, self._weights)
        self._steps += 1
        self._mean.lerp_(gradient, 1 - _BETA1)
        self._square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = (self._square.sqrt() / (1 - _BETA2**self._steps) ** 0.5).add_(_EPSILON)
        self._weights.addcdiv_(self._mean, scale, value=-self._spec.learning_rate / (1 - _BETA1**self._steps))

    def _look(self) -> None:
        """Measure on the development rows: keep what got better, stop what has failed to too often."""
        hits = torch.stack([self._hits(at, own) for at, own in zip(self._live, self._weights, strict=True)])
        best_hits, best = self._best_hits[self._live], self._best[self._live]
        better = self._running & (hits > best_hits)
        self._best_hits[self._live] = torch.where(better, hits, best_hits)
        self._best[self._live] = torch.where(better[:, None, :, None], self._weights, best)
        missed = self._running & ~better
        self._running &= ~(missed & (self._misses >= self._spec.tenacity))
        self._misses += missed
        self._put_aside()

    def _hits(self, at: int, weights: Float[Tensor, "classes penalties inputs"]) -> Int[Tensor, " penalties"]:
        dev = torch.from_numpy(self._splits[at].dev)
        found = (weights @ self._data.inputs[dev].T).argmax(0)
        return (found == self._data.labels[dev]).sum(1)

    def _put_aside(self) -> None:
        goes_on = self._running.any(1)
        if goes_on.all():
            return
        self._live = [at for at, yes in zip(self._live, goes_on.tolist(), strict=True) if yes]
        for name in ("_rows", "_penalties", "_weights", "_mean", "_square", "_misses", "_running"):
            setattr(self, name, getattr(self, name)[goes_on])


def _initial_weights(features: int, classes: int, seed: int) -> Float[Tensor, "classes inputs"]:
    """What `nn.Linear` begins with after `torch.manual_seed(seed)`."""
    generator = torch.Generator().manual_seed(seed)
    bound = features**-0.5
    weight = torch.empty(classes, features).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator)
    return torch.cat([weight, bias[:, None]], 1)


def _with_bias(features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows inputs"]:
    return torch.cat([features, features.new_ones(len(features), 1)], 1)
