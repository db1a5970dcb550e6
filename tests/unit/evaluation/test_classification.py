import json

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.classification import Classification


def test_few_texts_of_each_label_are_enough_here(tiny_subject, labelled, encoded):
    task = Classification(labelled(30), labelled(6, "test.csv", 70), samples_per_label=2, experiments=3)
    measured = task.run(tiny_subject, iter)
    assert task.metrics(measured.items) == {"accuracy": 1.0, "f1": 1.0}
    assert len(measured.items["f1"]) == 3
    assert measured.notes["not_converged"] == 0
    assert json.loads(json.dumps(measured.notes)) == measured.notes
    (texts,) = encoded
    assert 2 * 2 < len(texts) - 12 <= 3 * 2 * 2, "of the training texts only those that some experiment draws"


def test_a_label_without_training_texts_is_an_error(tiny_subject, labelled, tmp_path):
    test = labelled(3, "test.csv")
    (tmp_path / "test.csv").write_text("text,label\nIt hails .,hail\nIt rains .,rain\n")
    with pytest.raises(UserError, match=r"test.csv has labels that .*texts.csv lacks: hail"):
        Classification(labelled(3), test).run(tiny_subject, iter)
    (tmp_path / "test.csv").unlink()
    assert "test.csv" in Classification(labelled(3), test).missing
