import json

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.linear_probe import ProbeSpec
from sempa_lightning.evaluation.senteval import folds_of_training
from sempa_lightning.evaluation.transfer import Transfer
from sempa_lightning.models.embedder import Embedder


def check(task, subject, items):
    measured = task.run(subject, iter)
    assert len(measured.items["predicted"]) == len(measured.items["gold"]) == items
    assert json.loads(json.dumps(measured.notes)) == measured.notes
    return measured, task.metrics(measured.items)


def test_each_row_of_one_part_is_tested_once(tiny_subject, labelled, encoded):
    measured, metrics = check(Transfer(labelled(7), folds=3), tiny_subject, 14)
    assert len(encoded) == 1
    assert measured.items["gold"].bincount().tolist() == [7, 7]
    assert metrics == {"accuracy": 1.0}, "other words, other class"
    assert measured.notes["rows"] == {"train": 14}
    assert len(measured.notes["l2"]) == 3


def test_a_given_split_tests_the_test_part_alone(tiny_subject, labelled, encoded):
    parts = {"train": labelled(12), "test": labelled(5, "test.csv", 50)}
    measured, metrics = check(Transfer(**parts, folds=3), tiny_subject, 10)
    assert metrics["accuracy"] == 1.0
    assert measured.notes == {"rows": {"train": 24, "test": 10}, "labels": ["food", "rain"], "l2": [1e-5]}
    with_dev = Transfer(**parts, dev=labelled(6, "dev.csv", 30))
    measured, metrics = check(with_dev, tiny_subject, 10)
    assert metrics["accuracy"] == 1.0
    assert measured.notes["rows"] == {"train": 24, "dev": 12, "test": 10}
    assert len(encoded) == 2


def test_features_of_a_pair(tiny_subject, labelled_pairs, encoded):
    """[|u - v|, u * v] of rows in SentEval's order: by number of words of the first, of the second, then by label."""
    train, test = labelled_pairs(15), labelled_pairs(6, "test.csv")
    measured, metrics = check(Transfer(train, test, pairs=True, folds=3), tiny_subject, 12)
    assert len(encoded) == 1
    rows = []
    for part in (train, test):
        rows += sorted(part, key=lambda row: (len(row.texts[0].split()), len(row.texts[1].split()), int(row.label)))
    embedder = Embedder(tiny_subject.model, tiny_subject.tokenizer, tiny_subject.readout)
    first, second = (embedder.encode([row.texts[side] for row in rows]) for side in (0, 1))
    features = torch.cat([(first - second).abs(), first * second], 1)
    gold = torch.tensor([int(row.label) for row in rows])
    expected = folds_of_training(features[:30], gold[:30], features[30:], 3, ProbeSpec())
    assert torch.equal(measured.items["predicted"], expected.classes)
    assert torch.equal(measured.items["gold"], gold[30:])
    assert metrics["accuracy"] == np.mean((expected.classes == gold[30:]).numpy())
    assert metrics["f1"] == pytest.approx(f1_score(gold[30:], expected.classes))


def test_what_cannot_be_folded_is_an_error(tiny_subject, labelled, labelled_pairs, tmp_path):
    with pytest.raises(UserError, match="label 'food' has 11 rows, but 10 folds take 12"):
        Transfer(labelled(11)).run(tiny_subject, iter)
    with pytest.raises(UserError, match="label 'food' has 9 rows, but 10 folds take 10"):
        Transfer(labelled(9), labelled(9)).run(tiny_subject, iter)
    with pytest.raises(UserError, match="the task needs 1"):
        Transfer(labelled_pairs(12)).run(tiny_subject, iter)
    with pytest.raises(UserError, match="needs a test part"):
        Transfer(labelled(9), dev=labelled(9))


def test_a_part_that_is_not_here_is_named(labelled, tmp_path):
    present, absent = labelled(3), labelled(3, "absent.csv")
    (tmp_path / "absent.csv").unlink()
    assert Transfer(present, present).missing is None
    assert "absent.csv" in Transfer(present, absent).missing
