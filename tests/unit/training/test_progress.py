"""How far the bar counts."""

from types import SimpleNamespace

import pytest

from sempa_lightning.training.callbacks.progress import StepProgressBar


@pytest.mark.parametrize(
    ("max_steps", "epoch", "expected"), [(-1, 0, 10), (4, 0, 4), (10, 0, 10), (25, 0, 10), (25, 1, 10), (25, 2, 5)]
)
def test_the_bar_ends_with_the_epoch_or_the_run(max_steps, epoch, expected):
    bar = StepProgressBar()
    bar._trainer = SimpleNamespace(max_steps=max_steps, current_epoch=epoch, num_training_batches=10)
    assert bar.total_train_batches == expected


@pytest.mark.parametrize(("max_epochs", "expected"), [(3, "Epoch 1/2"), (-1, "Epoch 1"), (None, "Epoch 1")])
def test_an_epoch_is_counted_against_those_that_there_will_be(max_epochs, expected):
    bar = StepProgressBar()
    bar._trainer = SimpleNamespace(max_epochs=max_epochs)
    assert bar._get_train_description(1).rstrip() == expected
