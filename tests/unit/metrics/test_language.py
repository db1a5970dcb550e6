"""Token metrics: against a plain loop, and against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from sempa_lightning.metrics.language import token_hits, token_kl, token_nll

SEQUENCES, TOKENS, VOCAB = 3, 6, 11


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(SEQUENCES, TOKENS, VOCAB, generator=generator)
    input_ids = torch.randint(VOCAB, (SEQUENCES, TOKENS), generator=generator)
    mask = torch.rand(SEQUENCES, TOKENS, generator=generator) < 0.6
    mask[:, 0] = False
    return logits, input_ids, mask


def test_nll_equals_the_plain_loop(batch):
    logits, input_ids, mask = batch
    nll = token_nll(logits, input_ids, mask)
    for sequence in range(SEQUENCES):
        for token in range(TOKENS):
            expected = 0.0
            if mask[sequence, token]:
                row = [math.exp(value) for value in logits[sequence, token - 1].tolist()]
                expected = -math.log(row[input_ids[sequence, token]] / sum(row))
            assert nll[sequence, token].item() == pytest.approx(expected, abs=1e-5)


def test_nll_by_hand():
    """Logits ln 1, ln 3: the second token has probability 3/4; the last position's logits predict nothing."""
    logits = torch.tensor([[[0.0, math.log(3)], [100.0, -100.0]]])
    nll = token_nll(logits, torch.tensor([[0, 1]]), torch.tensor([[False, True]]))
    assert nll.tolist() == [[0.0, pytest.approx(math.log(4 / 3), abs=1e-6)]]


def test_nll_of_half_precision_logits_is_computed_in_float32(batch):
    logits, input_ids, mask = batch
    half = logits.bfloat16()
    nll = token_nll(half, input_ids, mask)
    assert nll.dtype == torch.float32
    assert torch.equal(nll, token_nll(half.float(), input_ids, mask))


def test_hits_equal_the_plain_loop(batch):
    logits, input_ids, mask = batch
    logits[0, 0, input_ids[0, 1]] = 50.0
    logits[1, 2, input_ids[1, 3]] = 50.0
    mask[0, 1], mask[1, 3] = True, False
    hits = token_hits(logits, input_ids, mask)
    for sequence in range(SEQUENCES):
        for token in range(TOKENS):
            row = logits[sequence, token - 1].tolist()
            hit = bool(mask[sequence, token]) and row.index(max(row)) == input_ids[sequence, token]
            assert bool(hits[sequence, token]) == hit
    assert hits[0, 1]
    assert not hits[1, 3]


def test_kl_equals_torch_distributions(batch):
    logits, _, mask = batch
    reference = logits.flip(0) / 2
    kl = token_kl(logits, reference, mask)
    both = (Categorical(logits=values[:, :-1]) for values in (logits, reference))
    expected = torch.zeros(SEQUENCES, TOKENS)
    expected[:, 1:] = kl_divergence(*both)
    torch.testing.assert_close(kl, expected * mask)
    assert (kl[mask] > 0).all()
    assert torch.equal(kl[~mask], torch.zeros(int((~mask).sum())))
    assert not torch.allclose(kl, token_kl(reference, logits, mask))


def test_kl_of_equals_is_zero_whatever_the_scale_of_the_logits(batch):
    logits, _, mask = batch
    assert torch.equal(token_kl(logits, logits, mask), torch.zeros(SEQUENCES, TOKENS))
    torch.testing.assert_close(token_kl(logits, logits + 5, mask), torch.zeros(SEQUENCES, TOKENS), atol=1e-5, rtol=0)
