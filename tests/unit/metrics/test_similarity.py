import pytest
import scipy.stats
import torch

from sempa_lightning.metrics.similarity import cosine, cosine_matrix, pearson, spearman


def test_correlations_equal_scipy_with_ties():
    generator = torch.Generator().manual_seed(0)
    gold = torch.randint(0, 11, (300,), generator=generator) / 2
    predicted = gold + 2 * torch.randn(300, generator=generator)
    assert spearman(predicted, gold) == pytest.approx(scipy.stats.spearmanr(predicted, gold).statistic, abs=1e-6)
    assert pearson(predicted, gold) == pytest.approx(scipy.stats.pearsonr(predicted, gold).statistic, abs=1e-6)
    assert spearman(predicted.exp(), gold) == pytest.approx(spearman(predicted, gold), abs=1e-6), "ranks alone count"


def test_cosine_by_hand():
    first = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    second = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(cosine(first, second), torch.tensor([24 / 25, -1.0, 0.0]))
    torch.testing.assert_close(cosine_matrix(first, second)[0], torch.tensor([24 / 25, -3 / 5, 7 / 5 / 2**0.5]))
