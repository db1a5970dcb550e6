import math

import pytest
import scipy.stats
import torch

from sempa_lightning.metrics.similarity import cosine, cosine_matrix, pearson, spearman, subset_means


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


def test_all_is_neither_of_the_means_over_subsets():
    """Three pairs that agree and two that disagree, in subsets of unlike level."""
    predicted = torch.tensor([0.1, 0.2, 0.3, 0.9, 0.8])
    gold = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    subsets = torch.tensor([7, 7, 7, 2, 2])
    mean, weighted = subset_means(spearman, predicted, gold, subsets)
    assert mean == pytest.approx((1 - 1) / 2, abs=1e-5)
    assert weighted == pytest.approx((3 * 1 - 2 * 1) / 5, abs=1e-5)
    assert spearman(predicted, gold) == pytest.approx(1 - 6 * 2 / (5 * 24), abs=1e-5)  # Spearman's own formula: no ties


def test_a_subset_without_variation_is_left_out():
    predicted, gold = torch.tensor([0.1, 0.2, 0.5, 0.5, 0.7]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    mean, weighted = subset_means(pearson, predicted, gold, torch.tensor([0, 0, 1, 1, 2]))
    assert (mean, weighted) == (pytest.approx(1), pytest.approx(1))
    assert all(map(math.isnan, subset_means(pearson, predicted[2:4], gold[2:4], torch.tensor([0, 0]))))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("correlation", [spearman, pearson])
def test_no_correlation_of_what_is_no_number(correlation, value):
    good, bad = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, value, 3.0, 4.0])
    assert math.isnan(correlation(bad, good))
    assert math.isnan(correlation(good, bad))
    assert math.isnan(correlation(torch.full((4,), value), good))
    mean, weighted = subset_means(correlation, good.repeat(2), torch.cat([good, bad]), torch.arange(8) // 4)
    assert math.isnan(mean)
    assert math.isnan(weighted)


@pytest.mark.parametrize("correlation", [spearman, pearson])
def test_no_correlation_of_equal_values(correlation):
    values, equal = torch.tensor([1.0, 2.0, 3.0]), torch.full((3,), 2.0)
    assert all(map(math.isnan, (correlation(values, equal), correlation(equal, values), correlation(equal, equal))))
