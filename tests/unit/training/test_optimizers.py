"""Learning-rate schedules, step by step."""

import pytest
import torch

from sempa_lightning.training.optimizers import linear_with_warmup


def test_the_linear_schedule_rises_and_falls_in_straight_lines():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    schedule = linear_with_warmup(optimizer, num_steps=6, warmup_steps=2)
    rates = []
    for _ in range(6):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0, 0.5, 1, 0.75, 0.5, 0.25])
