import json

import pytest

from sempa_lightning.evaluation.clustering import Clustering, LegacyClustering


def test_two_things_make_two_clusters(tiny_subject, labelled, encoded):
    for task, items in (
        (Clustering(labelled(20), experiments=3, draws=64), 3),
        (LegacyClustering([labelled(20), labelled(8, "other.csv")], seeds=[1, 2]), 4),
    ):
        measured = task.run(tiny_subject, iter)
        assert len(measured.items["v_measure"]) == items
        assert task.metrics(measured.items)["v_measure"] > 0.9, "other words, other cluster"
        assert measured.notes["v_measure_sd"] == pytest.approx(measured.items["v_measure"].std(correction=0).item())
        assert json.loads(json.dumps(measured.notes)) == measured.notes
    assert len(encoded) == 2


def test_no_more_texts_are_encoded_than_asked_for(tiny_subject, labelled, encoded):
    measured = Clustering(labelled(20), experiments=2, draws=30, max_texts=12).run(tiny_subject, iter)
    assert len(encoded[0]) == len(set(encoded[0])) == measured.notes["texts"] == 12


def test_a_file_that_is_not_here_is_named(labelled, tmp_path):
    source = labelled(2)
    assert Clustering(source).missing is None
    (tmp_path / "texts.csv").unlink()
    assert "texts.csv" in Clustering(source).missing
    assert "texts.csv" in LegacyClustering([source]).missing
