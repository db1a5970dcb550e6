"""Laws that every pooling must obey."""

import importlib
import inspect
import pkgutil

import pytest
import torch

from sempa_lightning import pooling
from sempa_lightning.types import TokenStates

NAMES = sorted(module.name for module in pkgutil.iter_modules(pooling.__path__))
LENGTHS = (7, 1, 4, 3)
HIDDEN = 6


def test_there_are_poolings():
    assert {"last_token", "mean", "text_mean", "attention_weighted"} <= set(NAMES)


@pytest.fixture(params=NAMES)
def pool(request):
    """The function that is named after its file."""
    return getattr(importlib.import_module(f"sempa_lightning.pooling.{request.param}"), request.param)


@pytest.fixture
def sequences():
    """Sequences without padding; the text is all but the first token, if there are more."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for length in LENGTHS:
        mask = torch.ones(1, length, dtype=torch.bool)
        text_mask = mask.clone()
        text_mask[0, 0] = length == 1
        attention = torch.rand(1, length, generator=generator).softmax(-1)
        found.append(TokenStates(torch.randn(1, length, HIDDEN, generator=generator), mask, text_mask, attention))
    return found


def batch(sequences, left=0, right=0, filling=9.0, side="right"):
    """Lay sequences out with padding behind them or before them, and `left` and `right` more columns of it."""
    width = left + max(LENGTHS) + right
    rows = len(sequences)
    states = TokenStates(
        torch.full((rows, width, HIDDEN), filling),
        torch.zeros(rows, width, dtype=torch.bool),
        torch.zeros(rows, width, dtype=torch.bool),
        torch.full((rows, width), filling),
    )
    for row, sequence in enumerate(sequences):
        length = sequence.mask.shape[1]
        start = left if side == "right" else left + max(LENGTHS) - length
        for to, tensor in zip(states, sequence, strict=True):
            to[row, start : start + length] = tensor[0]
    return states


def test_takes_nothing_but_states(pool):
    assert list(inspect.signature(pool).parameters) == ["states"]


def test_both_padding_sides_agree_with_no_padding(pool, sequences):
    left, right = pool(batch(sequences, side="left")), pool(batch(sequences))
    assert left.shape[0] == len(sequences)
    assert left.shape[1] % HIDDEN == 0
    torch.testing.assert_close(left, right)
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(right[row], pool(sequence)[0])


@pytest.mark.parametrize("filling", [0.0, -1e4, float("inf"), float("nan")])
def test_padding_changes_nothing(pool, sequences, filling):
    expected = pool(batch(sequences))
    for side in "left", "right":
        torch.testing.assert_close(pool(batch(sequences, 3, 2, filling, side)), expected)


def test_inputs_are_not_changed(pool, sequences):
    states = batch(sequences, 2)
    before = [tensor.clone() for tensor in states]
    pool(states)
    assert all(map(torch.equal, states, before))


def test_gradient_reaches_the_last_token_and_no_padding(pool, sequences):
    states = batch(sequences, 0, 2)
    states.hidden.requires_grad_()
    pool(states).sum().backward()
    gradient = states.hidden.grad
    assert torch.equal(gradient[~states.mask], torch.zeros(int((~states.mask).sum()), HIDDEN))
    for row, length in enumerate(LENGTHS):
        assert (gradient[row, length - 1] != 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_pooled_in_full(pool, sequences, dtype):
    states = batch(sequences)
    half = states._replace(hidden=states.hidden.to(dtype))
    pooled = pool(half)
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, pool(half._replace(hidden=half.hidden.float())))
