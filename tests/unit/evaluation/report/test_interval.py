import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from sempa_lightning.evaluation.report.interval import paired_interval


def test_of_a_mean_it_is_the_standard_error_of_the_paired_differences():
    generator = torch.Generator().manual_seed(0)
    before = torch.rand(400, generator=generator)
    change = 0.1 + 0.02 * torch.randn(400, generator=generator)
    interval = paired_interval(
        {"hit": before}, {"hit": before + change}, float(before.mean()), float((before + change).mean()), 1000
    )
    expected = float(change.std()) / 20
    assert interval.se == pytest.approx(expected, rel=0.1)
    assert interval.low == pytest.approx(float(change.mean()) - 1.96 * expected, abs=expected / 3)
    assert interval.high == pytest.approx(float(change.mean()) + 1.96 * expected, abs=expected / 3)


def test_it_finds_spearman_and_perplexity_by_their_numbers():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 6, 200).astype(float)
    items = [{"cosine": torch.tensor(gold + rng.normal(0, noise, 200)), "gold": torch.tensor(gold)} for noise in (3, 1)]
    numbers = [float(spearmanr(each["cosine"], each["gold"]).statistic) for each in items]
    interval = paired_interval(*items, *numbers, 400)
    assert interval.low < numbers[1] - numbers[0] < interval.high
    tokens = torch.tensor([3.0, 5.0, 8.0])
    items = [{"nll": torch.tensor(nll), "tokens": tokens} for nll in ([6.0, 10.0, 20.0], [7.0, 9.0, 22.0])]
    numbers = [float((each["nll"].sum() / tokens.sum()).exp()) for each in items]
    assert paired_interval(*items, *numbers, 50).se > 0


def test_there_is_none_where_the_numbers_cannot_be_made_again_or_items_are_others():
    values = torch.tensor([1.0, 2.0, 3.0])
    assert paired_interval({"x": values}, {"x": values}, 2.0, 2.5, 50) is None
    assert paired_interval({"x": values}, {"x": values[:2]}, 2.0, 1.5, 50) is None
    assert paired_interval({}, {}, 1.0, 1.0, 50) is None
    other = {"cosine": values, "gold": values.flip(0)}
    assert paired_interval({"cosine": values, "gold": values}, other, 1.0, -1.0, 50) is None
