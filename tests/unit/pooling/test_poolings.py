"""The two poolings, by hand."""

import pytest
import torch

from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean

STATES = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [6.0, 30.0]], [[4.0, 40.0], [5.0, 50.0], [9.0, 60.0]]])
MASK = torch.tensor([[True, True, True], [False, True, False]])


def test_last_token():
    assert last_token(STATES, MASK).tolist() == [[6.0, 30.0], [5.0, 50.0]]


def test_mean():
    assert mean(STATES, MASK).tolist() == [[3.0, 20.0], [5.0, 50.0]]


def test_mean_counts_tokens_exactly_in_bfloat16():
    """bfloat16 has 8 significant bits: 257 becomes 256, and the mean of 256 ones and a zero 1, not 0.996."""
    states = torch.ones(1, 257, 1, dtype=torch.bfloat16)
    states[0, 0] = 0
    pooled = mean(states, torch.ones(1, 257, dtype=torch.bool))
    assert pooled.item() == pytest.approx(256 / 257, abs=2**-9)
    assert pooled.item() < 1
