"""Which rejected candidates rows are trained with, worked out by hand."""

from functools import partial

import pytest

from sempa_lightning.data.negatives import Negatives, candidate_counts
from sempa_lightning.data.preferences import PreferenceCollator
from sempa_lightning.data.steps import StepDataset
from sempa_lightning.errors import UserError
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.types import TokenizedRow

END = 0


def row(name, anchor, chosen, rejected, prompt=(1, 2, 3)):
    """A row whose sentences are one token each."""
    candidates = [[token, END] for token in (*chosen, *rejected)]
    return TokenizedRow(name, list(prompt), candidates, len(chosen), anchor_ids=[anchor, END])


# The fourth says something else about the first one's anchor.
ROWS = [row("a", 10, [20], [30]), row("b", 11, [21], [31]), row("c", 12, [22], [32]), row("d", 10, [23], [33])]


def candidates(rows, max_length=100, **negatives):
    found = Negatives(**negatives)(rows, max_length)
    return [[token for token, _ in row.completion_ids] for row in found]


@pytest.mark.parametrize(
    ("given", "in_batch", "expected"),
    [
        (True, 0, [[20, 30], [21, 31], [22, 32], [23, 33]]),
        (False, 0, [[20], [21], [22], [23]]),
        (True, 1, [[20, 30, 21], [21, 31, 22], [22, 32, 23], [23, 33, 21]]),
        (False, 1, [[20, 21], [21, 22], [22, 23], [23, 21]]),
        (True, 2, [[20, 30, 21, 22], [21, 31, 22, 23], [22, 32, 23, 20], [23, 33, 21, 22]]),
        (True, 9, [[20, 30, 21, 22], [21, 31, 22, 23, 20], [22, 32, 23, 20, 21], [23, 33, 21, 22]]),
    ],
)
def test_four_rows(given, in_batch, expected):
    """From the row behind on and round the end; what is chosen for the same anchor is no negative."""
    assert candidates(ROWS, given=given, in_batch=in_batch) == expected


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (row("", 11, [30], [31]), "equal to its own rejected"),
        (row("", 11, [20], [31]), "equal to its own chosen"),
        (row("", 11, [25], [31]), "equal to its own second chosen"),
        (row("", 11, [10], [31]), "equal to the anchor"),
        (row("", 10, [21], [31]), "of the same anchor"),
        (row("", 25, [21], [31]), "of one of its chosen as anchor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("given", [True, False])
def test_what_is_no_negative(other, reason, given):
    first = row("a", 10, [20, 25], [30])
    assert len(candidates([first, other], given=given, in_batch=1)[0]) == (3 if given else 2), reason
    assert candidates([first, row("", 30, [21], [31])], given=False, in_batch=1)[0] == [20, 25, 21]


def test_nothing_twice():
    rows = [row("a", 10, [20], [30]), row("b", 11, [21], [31]), row("c", 12, [21], [32])]
    assert candidates(rows, given=True, in_batch=2)[0] == [20, 30, 21]


def test_first_chosen_of_several():
    rows = [row("a", 10, [20], [30]), row("b", 11, [21, 24], [31])]
    assert candidates(rows, given=True, in_batch=2) == [[20, 30, 21], [21, 24, 31, 20]]


def test_nothing_longer_than_the_limit():
    """Three tokens of prompt and two of a candidate make five."""
    long = row("b", 11, [21], [31], prompt=(1, 2, 3, 4))
    assert candidates([ROWS[0], long], max_length=5, given=True, in_batch=1) == [[20, 30, 21], [21, 31]]


def test_what_is_the_row_s_own_is_known():
    (first, *_) = Negatives(given=True, in_batch=2)(ROWS, 100)
    assert (first.id, first.num_chosen, first.num_in_batch) == ("a", 1, 2)
    assert first.own_completion_ids == [[20, END], [30, END]]
    assert ROWS[0].own_completion_ids == ROWS[0].completion_ids == [[20, END], [30, END]]


def test_counts():
    assert candidate_counts(Negatives(given=True, in_batch=9)(ROWS, 100)) == {
        "candidates": {"4": 2, "5": 2},
        "given": {"1": 4},
        "in_batch": {"2": 2, "3": 2},
    }
    assert candidate_counts(Negatives(given=False, in_batch=0)(ROWS, 100)) == {
        "candidates": {"1": 4},
        "given": {"0": 4},
        "in_batch": {"0": 4},
    }


@pytest.mark.parametrize("budget", [1, 24, 10**6])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_and_micro_batches_change_nothing(budget, world_size):
    """And the budget counts what was added: a row takes 5 tokens, and 7 or 8 with those."""
    layout, together = Packed(100), partial(Negatives(given=True, in_batch=3), max_length=100)
    shares = [
        StepDataset(ROWS, PreferenceCollator(layout, 0), budget, rank, world_size, together)[[2, 0, 3, 1]]
        for rank in range(world_size)
    ]
    pairs = [pair for share in shares for pair in zip(share.micro_batches, share.weights, strict=True)]
    batches = [batch for batch, weight in pairs if weight]
    found = {row.id: row.completion_ids for batch in batches for row in batch.rows}
    whole = Negatives(given=True, in_batch=3)([ROWS[2], ROWS[0], ROWS[3], ROWS[1]], 100)
    assert found == {row.id: row.completion_ids for row in whole}
    assert sum(len(batch.rows) for batch in batches) == len(ROWS)
    assert all(len(batch.rows) == 1 or layout.num_tokens(batch.rows) <= budget for batch in batches)
    if (budget, world_size) == (24, 1):
        assert [len(batch.rows) for batch in batches] == [3, 1]


def test_a_number_below_zero():
    with pytest.raises(UserError, match=r"data\.negatives.in_batch=-1 is not a whole number from 0 on"):
        Negatives(given=True, in_batch=-1)
