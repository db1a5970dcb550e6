import pytest
import torch
from sklearn.metrics import v_measure_score

from sempa_lightning.metrics.clustering import v_measure


def test_by_hand():
    gold = torch.tensor([0, 0, 1, 1])
    assert v_measure(torch.tensor([5, 5, 2, 2]), gold) == pytest.approx(1), "names of clusters do not count"
    assert v_measure(torch.tensor([0, 1, 0, 1]), gold) == pytest.approx(0)
    assert v_measure(torch.zeros(4, dtype=torch.long), gold) == 0
    # Homogeneity 1, completeness ln 2 / ln 4: their harmonic mean.
    assert v_measure(torch.arange(4), gold) == pytest.approx(2 / 3)
    assert v_measure(torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.long)) == 1


def test_equal_to_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    gold = torch.randint(9, (500,), generator=generator)
    clusters = (gold + torch.randint(4, (500,), generator=generator)) % 7
    assert v_measure(clusters, gold) == pytest.approx(v_measure_score(gold, clusters), abs=1e-10)
