"""Laws that every pooling must obey."""

import importlib
import inspect
import pkgutil

import pytest
import torch

from sempa_lightning import pooling

NAMES = sorted(module.name for module in pkgutil.iter_modules(pooling.__path__))
LENGTHS = (7, 1, 4, 3)
HIDDEN = 6


def test_there_are_poolings():
    assert {"last_token", "mean"} <= set(NAMES)


@pytest.fixture(params=NAMES)
def pool(request):
    """The function that is named after its file."""
    return getattr(importlib.import_module(f"sempa_lightning.pooling.{request.param}"), request.param)


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, HIDDEN, generator=generator) for length in LENGTHS]


def padded(tokens, left, right, filling=9.0):
    """Lay sequences out with padding on both sides of the longest."""
    width = max(map(len, tokens))
    states = torch.full((len(tokens), left + width + right, HIDDEN), filling)
    mask = torch.zeros(states.shape[:2], dtype=torch.bool)
    return states, mask, width


def on_the_left(tokens, extra=0, filling=9.0):
    states, mask, _ = padded(tokens, extra, 0, filling)
    for row, sequence in enumerate(tokens):
        states[row, -len(sequence) :], mask[row, -len(sequence) :] = sequence, True
    return states, mask


def on_the_right(tokens, extra=0, filling=9.0):
    states, mask, _ = padded(tokens, 0, extra, filling)
    for row, sequence in enumerate(tokens):
        states[row, : len(sequence)], mask[row, : len(sequence)] = sequence, True
    return states, mask


def test_takes_hidden_states_and_mask_by_these_names(pool):
    assert list(inspect.signature(pool).parameters) == ["hidden_states", "attention_mask"]


def test_both_padding_sides_agree_with_no_padding(pool, tokens):
    left, right = pool(*on_the_left(tokens)), pool(*on_the_right(tokens))
    assert left.shape == (len(tokens), HIDDEN)
    torch.testing.assert_close(left, right)
    for row, sequence in enumerate(tokens):
        alone = pool(sequence[None], torch.ones(1, len(sequence), dtype=torch.bool))
        torch.testing.assert_close(right[row], alone[0])


@pytest.mark.parametrize("filling", [0.0, -1e4, float("inf"), float("nan")])
def test_padding_changes_nothing(pool, tokens, filling):
    expected = pool(*on_the_right(tokens))
    torch.testing.assert_close(pool(*on_the_right(tokens, 3, filling)), expected)
    torch.testing.assert_close(pool(*on_the_left(tokens, 3, filling)), expected)


def test_inputs_are_not_changed(pool, tokens):
    states, mask = on_the_left(tokens, 2)
    before = states.clone(), mask.clone()
    pool(states, mask)
    assert torch.equal(states, before[0])
    assert torch.equal(mask, before[1])


def test_gradient_reaches_the_last_token_and_no_padding(pool, tokens):
    states, mask = on_the_right(tokens, 2)
    states.requires_grad_()
    pool(states, mask).sum().backward()
    assert torch.equal(states.grad[~mask], torch.zeros(int((~mask).sum()), HIDDEN))
    for row, sequence in enumerate(tokens):
        assert (states.grad[row, len(sequence) - 1] != 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept(pool, tokens, dtype):
    states, mask = on_the_right(tokens)
    half = pool(states.to(dtype), mask)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), pool(states, mask), rtol=0.02, atol=0.02)
