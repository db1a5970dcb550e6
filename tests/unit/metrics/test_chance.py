import math

import pytest
import torch

from sempa_lightning.metrics.chance import at_chance, standard_error


def right(number, of):
    return torch.tensor([1.0] * number + [0.0] * (of - number))


def test_standard_error_is_that_of_a_mean():
    """Sample variance of k ones among n: n/(n-1) p(1-p); here 4/3 · 1/4, over 4."""
    assert standard_error(right(2, 4)) == pytest.approx(math.sqrt(4 / 3 / 4 / 4))
    assert standard_error(right(1, 1)) == math.inf


@pytest.mark.parametrize(("number", "expected"), [(100, True), (128, True), (129, False), (400, False)])
def test_the_bar_is_three_standard_errors(number, expected):
    """128 of 400 are 0.0700 above 0.25, and 3 · √(0.32 · 0.68 / 399) is 0.0701; 129 are 0.0725 above, 0.0702."""
    assert at_chance(right(number, 400), 0.25) is expected


def test_free_text_speaks_only_where_answers_were_right():
    """Nothing right has no error and is chance all the same; 8 of 400 are 2.85 errors above 0, 9 are 3.03."""
    assert at_chance(right(0, 400), 0.0)
    assert at_chance(right(8, 400), 0.0)
    assert not at_chance(right(9, 400), 0.0)


def test_a_single_item_says_nothing():
    assert at_chance(right(1, 1), 0.25)


def test_all_right_is_above_chance():
    assert not at_chance(right(2, 2), 0.25)
