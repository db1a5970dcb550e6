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
