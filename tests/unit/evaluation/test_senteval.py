"""SentEval's protocols against a plain implementation, one classifier and one step at a time, as its code goes."""

import copy

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from sempa_lightning.evaluation.linear_probe import ProbeSpec, Split, fit_probes, predict
from sempa_lightning.evaluation.senteval import development_set, folds_of_training, inner_folds

GRID = [10**power for power in range(-5, -1)]


class Plain:
    """`PyTorchClassifier` and `MLP` with `nhid=0`, in plain PyTorch; global random states, as there."""

    def __init__(self, features, classes, penalty, spec):
        np.random.seed(spec.seed)
        torch.manual_seed(spec.seed)
        self.spec = spec
        self.model = torch.nn.Linear(features, classes)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=spec.learning_rate, weight_decay=penalty)
        self.looks = 0

    def fit(self, x, y, dev=None):
        if dev is None:
            order = np.random.permutation(len(x))
            held_out = int(0.05 * len(x))
            dev = x[order[:held_out]], y[order[:held_out]]
            x, y = x[order[held_out:]], y[order[held_out:]]
        best, failures, epochs, stop = -1, 0, 0, False
        while not stop and epochs <= self.spec.max_epochs:
            for _ in range(self.spec.epoch_size):
                order = np.random.permutation(len(x))
                for at in range(0, len(x), self.spec.batch_size):
                    rows = order[at : at + self.spec.batch_size]
                    loss = torch.nn.functional.cross_entropy(self.model(x[rows]), y[rows])
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
            epochs += self.spec.epoch_size
            self.looks += 1
            accuracy = self.score(*dev)
            if accuracy > best:
                best, best_model = accuracy, copy.deepcopy(self.model)
            else:
                stop = failures >= self.spec.tenacity
                failures += 1
        self.model = best_model
        return self

    def score(self, x, y):
        return (self.predict(x) == y).sum().item() / len(y)

    def predict(self, x):
        with torch.no_grad():
            return self.model(x).argmax(1)


def plain_choice(x, y, classes, folds, seed, spec):
    scores = []
    for penalty in GRID:
        found = []
        for train, dev in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y):
            model = Plain(x.shape[1], classes, penalty, spec).fit(x[train], y[train], (x[dev], y[dev]))
            found.append(model.score(x[dev], y[dev]))
        scores.append(round(100 * np.mean(found), 2))
    return GRID[int(np.argmax(scores))]


def rows(number, classes, noise, width, seed=0):
    """Embeddings with some structure: noisy points around one centre for each class, in no order."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.arange(number) % classes
    labels = labels[torch.randperm(number, generator=generator)]
    return centres[labels] + noise * torch.randn(number, width, generator=generator), labels


# Few rows, many features and a large learning rate: there the penalty makes a difference.
NOISY = {"width": 40, "noise": 3.0}
FAST = {"learning_rate": 0.03, "max_epochs": 40}


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_classifiers_trained_together_are_those_trained_alone(noise):
    """Splits of two sizes, one that draws its development rows first; batches of a ragged end; several classes."""
    x, y = rows(150, 5, noise, 12)
    spec = ProbeSpec(max_epochs=120)
    everything = np.arange(150)
    splits = [
        Split(everything[40:], everything[:40]),
        Split.holding_out(everything, 0.05, spec.seed),
        Split(everything[:110], everything[110:]),
        Split(everything[:101], everything[101:]),
    ]
    penalties = torch.tensor([[1e-5, 1e-1], [1e-2, 1e-4], [0.0, 1.0], [1e-3, 1e-2]])
    probes = fit_probes(x, y, splits, penalties, spec)
    looks = set()
    for number, split in enumerate(splits):
        for column, penalty in enumerate(penalties[number].tolist()):
            plain = Plain(12, 5, penalty, spec)
            if split.drawn:
                plain.fit(x, y)
            else:
                plain.fit(x[split.train], y[split.train], (x[split.dev], y[split.dev]))
            looks.add(plain.looks)
            assert probes.accuracy[number, column] == pytest.approx(plain.score(x[split.dev], y[split.dev]))
            ours = probes.weights[number, column]
            torch.testing.assert_close(ours[:, :-1], plain.model.weight.data, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(ours[:, -1], plain.model.bias.data, atol=2e-5, rtol=1e-4)
            assert torch.equal(predict(x, ours), plain.predict(x))
    assert len(looks) > 3, "they stop at several times"


def test_the_last_look_comes_after_max_epochs():
    """As in SentEval, whose loop goes on while no more than `max_epoch` passes are done."""
    x, y = rows(60, 2, 2.5, 6)
    spec = ProbeSpec(max_epochs=8, tenacity=99)
    split = Split(np.arange(40), np.arange(40, 60))
    plain = Plain(6, 2, 1e-3, spec).fit(x[:40], y[:40], (x[40:], y[40:]))
    assert plain.looks == 3
    weights = fit_probes(x, y, [split], torch.tensor([[1e-3]]), spec).weights[0, 0]
    torch.testing.assert_close(weights[:, :-1], plain.model.weight.data, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("seed", "penalties"), [(1, 1), (2, 2)])
def test_one_part_is_tested_by_nested_folds(seed, penalties):
    x, y = rows(93, 2, **NOISY, seed=seed)
    x, spec = 0.3 * x, ProbeSpec(**FAST)
    expected, chosen = torch.empty_like(y), []
    for train, test in StratifiedKFold(3, shuffle=True, random_state=1111).split(x, y):
        chosen.append(plain_choice(x[train], y[train], 2, 3, 1111, spec))
        expected[test] = Plain(40, 2, chosen[-1], spec).fit(x[train], y[train]).predict(x[test])
    assert len(set(chosen)) == penalties
    found = inner_folds(x, y, 3, spec)
    assert found.penalties == chosen
    assert torch.equal(found.classes, expected)


@pytest.mark.parametrize(("seed", "penalty"), [(0, 1e-5), (1, 1e-2), (2, 1e-3)])
def test_with_a_test_part_the_training_part_is_folded(seed, penalty):
    x, y = rows(130, 4, 1.5, 40, seed)
    x, spec = 0.3 * x, ProbeSpec(seed=7, **FAST)
    assert plain_choice(x[:90], y[:90], 4, 3, 7, spec) == penalty
    expected = Plain(40, 4, penalty, spec).fit(x[:90], y[:90]).predict(x[90:])
    found = folds_of_training(x[:90], y[:90], x[90:], 3, spec)
    assert found.penalties == [penalty]
    assert torch.equal(found.classes, expected)


@pytest.mark.parametrize(("seed", "penalty"), [(1, 1e-5), (2, 1e-2)])
def test_a_development_part_takes_the_place_of_folds(seed, penalty):
    x, y = rows(160, 2, **NOISY, seed=seed)
    x, spec = 0.3 * x, ProbeSpec(**FAST)
    dev = x[90:120], y[90:120]
    models = [Plain(40, 2, power, spec).fit(x[:90], y[:90], dev) for power in GRID]
    best = int(np.argmax([round(100 * model.score(*dev), 2) for model in models]))
    assert GRID[best] == penalty
    found = development_set(x[:120], y[:120], 90, x[120:], spec)
    assert found.penalties == [penalty]
    assert torch.equal(found.classes, models[best].predict(x[120:]))


def test_nobody_s_random_state_is_touched():
    x, y = rows(90, 2, 2.5, 6)
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    inner_folds(x, y, 3, ProbeSpec(max_epochs=4))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
