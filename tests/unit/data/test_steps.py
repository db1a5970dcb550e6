"""Steps cut into micro-batches within a budget of tokens."""

import itertools

import pytest
import torch

from sempa_lightning.data.preferences import PreferenceCollator
from sempa_lightning.data.steps import StepDataset
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.types import TokenizedRow

LAYOUTS = {"padded": Padded(), "packed": Packed(100), "one anchor a sequence": Packed(1)}
BUDGETS = [1, 100, 150, 300, 1000, 10**9]


def random_rows(count=40, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    return [
        TokenizedRow(str(place), [1] * number(1, 40), [[2] * number(1, 20) for _ in range(number(2, 4))], 1)
        for place in range(count)
    ]


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


def share(rows, layout, budget, rank=0, world_size=1):
    dataset = StepDataset(rows, PreferenceCollator(layout, 0), budget, rank, world_size)
    return dataset[list(range(len(rows)))]


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_row_exactly_once(layout, budget, world_size):
    rows = random_rows()
    shares = [share(rows, layout, budget, rank, world_size) for rank in range(world_size)]
    pairs = [pair for step in shares for pair in zip(step.micro_batches, step.weights, strict=True)]
    found = [row for batch, weight in pairs if weight for row in batch.rows]
    assert sorted(found) == sorted(rows)
    assert {step.size for step in shares} == {len(rows)}
    assert len({len(step.micro_batches) for step in shares}) == 1  # so that sharded processes keep step


@pytest.mark.parametrize("budget", BUDGETS)
def test_no_pass_is_above_the_budget_unless_it_has_a_single_row(layout, budget):
    for seed in range(5):
        step = share(random_rows(seed=seed), layout, budget)
        for batch in step.micro_batches:
            assert len(batch.rows) == 1 or layout.num_tokens(batch.rows) <= budget
            assert len(batch.rows) == 1 or batch.sequences.live.sum() <= budget


@pytest.mark.parametrize("budget", BUDGETS)
def test_padding_does_not_take_a_pass_above_the_budget(budget):
    for seed in range(5):
        step = share(random_rows(seed=seed), Padded(), budget)
        for batch in step.micro_batches:
            assert len(batch.rows) == 1 or batch.sequences.input_ids.numel() <= budget


def test_the_budget_is_used(layout):
    """Two neighbours would not have fitted into one pass."""
    rows, budget = random_rows(), 300
    passes = [batch.rows for batch in share(rows, layout, budget).micro_batches]
    assert 1 < len(passes) < len(rows)
    for first, second in itertools.pairwise(passes):
        assert layout.num_tokens([*first, second[0]]) > budget


def test_one_pass_for_all_and_one_for_each(layout):
    rows = random_rows()
    assert [len(batch.rows) for batch in share(rows, layout, 10**9).micro_batches] == [len(rows)]
    assert [len(batch.rows) for batch in share(rows, layout, 1).micro_batches] == [1] * len(rows)


def test_rows_of_like_length_go_together(layout):
    """And the longest first, so that a step that does not fit into memory fails at its start."""
    lengths = [
        layout.num_tokens([row]) for batch in share(random_rows(), layout, 300).micro_batches for row in batch.rows
    ]
    assert lengths == sorted(lengths, reverse=True)


def test_the_same_step_is_cut_the_same(layout):
    cuts = [[batch.row_ids for batch in share(random_rows(), layout, 300).micro_batches] for _ in range(2)]
    assert cuts[0] == cuts[1]


def test_a_process_without_rows_keeps_the_others_company():
    rows = random_rows(2)
    step = share(rows, Packed(1), 100, rank=2, world_size=3)
    shortest = min(rows, key=lambda row: Packed(1).num_tokens([row]))
    assert [batch.rows for batch in step.micro_batches] == [[shortest]]
    assert (step.weights, step.size) == ([0.0], 2)
