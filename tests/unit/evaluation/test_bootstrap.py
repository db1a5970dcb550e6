import pytest
import torch

from sempa_lightning.evaluation.bootstrap import change_standard_errors


def mean(items):
    return {"mean": float(items["value"].mean())}


def test_error_of_a_mean_is_that_of_the_paired_differences():
    """The standard error of a mean of n differences is their standard deviation over the root of n."""
    generator = torch.Generator().manual_seed(0)
    before = 10 * torch.randn(400, generator=generator)  # what both stages share must cancel
    change = torch.randn(400, generator=generator)
    errors = change_standard_errors(mean, {"value": before}, {"value": before + change}, resamples=1000)
    assert errors["mean"] == pytest.approx(float(change.std()) / 20, rel=0.1)


def test_no_change_has_no_error():
    items = {"value": torch.arange(50.0)}
    assert change_standard_errors(mean, items, items)["mean"] == 0


def test_samples_without_a_number_are_left_out():
    """Of three items, the metric is undefined on a third of the samples: those without the first."""

    def metric(items):
        some = items["value"][items["value"] >= 2]
        return {"first": float(some.mean()), "never": float("nan")}

    before, after = torch.tensor([2.0, 1.0, 1.0]), torch.tensor([5.0, 0.0, 0.0])
    assert change_standard_errors(metric, {"value": before}, {"value": after}) == {"first": 0.0}
