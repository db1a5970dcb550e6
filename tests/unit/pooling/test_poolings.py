"""Each pooling, by hand."""

import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.pooling.attention_weighted import attention_weighted
from sempa_lightning.pooling.last_and_mean import last_and_mean
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.pooling.position_weighted_mean import position_weighted_mean
from sempa_lightning.pooling.text_mean import text_mean
from sempa_lightning.types import TokenStates

STATES = TokenStates(
    hidden=torch.tensor([[[1.0, 10.0], [2.0, 20.0], [6.0, 30.0]], [[4.0, 40.0], [5.0, 50.0], [9.0, 60.0]]]),
    mask=torch.tensor([[True, True, True], [True, True, False]]),
    text_mask=torch.tensor([[False, True, True], [True, False, False]]),
    attention=torch.tensor([[0.6, 0.1, 0.3], [0.25, 0.75, 0.0]]),
)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (last_token, [[6, 30], [5, 50]]),
        (mean, [[3, 20], [4.5, 45]]),
        (text_mean, [[4, 25], [4, 40]]),
        # 1 to 3 sixths of the first sequence, one and two thirds of the second.
        (position_weighted_mean, [[(1 + 4 + 18) / 6, (10 + 40 + 90) / 6], [14 / 3, 140 / 3]]),
        (last_and_mean, [[6, 30, 3, 20], [5, 50, 4.5, 45]]),
        # A quarter and three quarters of the first text; the second is a single token.
        (attention_weighted, [[0.25 * 2 + 0.75 * 6, 0.25 * 20 + 0.75 * 30], [4, 40]]),
    ],
)
def test_by_hand(pooling, expected):
    torch.testing.assert_close(pooling(STATES), torch.tensor(expected, dtype=torch.float32))


def test_mean_counts_tokens_exactly_in_bfloat16():
    """bfloat16 has 8 significant bits: 257 becomes 256, and the mean of 256 ones and a zero 1, not 0.996."""
    hidden = torch.ones(1, 257, 1, dtype=torch.bfloat16)
    hidden[0, 0] = 0
    mask = torch.ones(1, 257, dtype=torch.bool)
    assert mean(TokenStates(hidden, mask, mask)).item() == pytest.approx(256 / 257, rel=1e-6)


def test_attention_that_was_not_asked_for():
    with pytest.raises(UserError, match=r"readout\.attention=true"):
        attention_weighted(STATES._replace(attention=None))


def test_attention_that_rounding_has_left_nothing_of_is_even():
    states = STATES._replace(attention=torch.zeros(2, 3))
    torch.testing.assert_close(attention_weighted(states), text_mean(states))
