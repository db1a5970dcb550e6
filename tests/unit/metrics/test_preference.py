"""Preference metrics, by hand."""

import pytest
import torch

from sempa_lightning.metrics.preference import first_beats_rest, rejected_mean

VALUES = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [1.0, 0.0, 5.0], [-2.0, -3.0, 0.0]])
MASK = torch.tensor([[True, True, True], [True, True, True], [True, True, True], [True, True, False]])


def test_first_beats_rest_is_strict_and_blind_to_absent_candidates():
    assert first_beats_rest(VALUES, MASK).tolist() == [True, False, False, True]


@pytest.mark.parametrize("garbage", [float("inf"), float("nan")])
def test_first_beats_rest_ignores_what_stands_at_absent_candidates(garbage):
    assert first_beats_rest(VALUES.masked_fill(~MASK, garbage), MASK).tolist() == [True, False, False, True]


def test_first_beats_rest_may_leave_out_other_chosen():
    """With a mask of the rejected, a second chosen is no rival: row 2 is compared to its 0, not to its 5."""
    rejected = torch.tensor([[False, True, True], [False, False, True], [False, True, False], [False, True, False]])
    assert first_beats_rest(VALUES, rejected).tolist() == [True, True, True, True]


def test_rejected_mean():
    rejected = MASK & torch.tensor([False, True, True])
    assert rejected_mean(VALUES, rejected).tolist() == [1.5, 0.5, 2.5, -3.0]
