import json

import pytest
from sklearn.metrics import average_precision_score

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.pairs import PairClassification


def test_pairs_of_the_same_words_come_first(tiny_subject, labelled_pairs, encoded):
    task = PairClassification(labelled_pairs(8))
    measured = task.run(tiny_subject, iter)
    assert len(encoded) == 1
    ap = task.metrics(measured.items)["ap"]
    assert ap == pytest.approx(average_precision_score(measured.items["gold"], measured.items["cosine"]))
    assert ap > 0.9
    assert measured.notes == {"pairs": 16, "positive": 8}
    assert json.loads(json.dumps(measured.notes)) == measured.notes


def test_the_positive_label_must_be_there(tiny_subject, labelled_pairs, labelled, tmp_path):
    with pytest.raises(UserError, match="no pair has the label 'yes'"):
        PairClassification(labelled_pairs(3), positive="yes").run(tiny_subject, iter)
    with pytest.raises(UserError, match="the task needs 2"):
        PairClassification(labelled(3)).run(tiny_subject, iter)
    source = labelled_pairs(3)
    (tmp_path / "pairs.csv").unlink()
    assert "pairs.csv" in PairClassification(source).missing
