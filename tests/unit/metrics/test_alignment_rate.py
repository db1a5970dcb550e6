import pytest
import torch

from sempa_lightning.metrics.alignment_rate import global_alignment_rate, hit_rate, local_alignment_rate


def test_by_hand():
    """Own tokens {1, 2, 3}, {3, 4}, {5}; decoded of them {3}, {}, {5}: the 3 of the second sentence is not its own."""
    surface = torch.tensor([[1, 2, 3], [3, 4, -1], [5, -1, -1]])
    decoded = torch.tensor([[3, 4], [1, 2], [5, 3]])
    assert global_alignment_rate(decoded, surface) == pytest.approx(2 / 5)
    assert local_alignment_rate(decoded, surface) == pytest.approx((1 / 3 + 0 + 1) / 3)
    assert hit_rate(decoded, surface) == pytest.approx(2 / 3)


def test_rates_equal_sets():
    generator = torch.Generator().manual_seed(0)
    own = [torch.randperm(50, generator=generator)[: 1 + row % 8].tolist() for row in range(60)]
    surface = torch.tensor([[*tokens, *[-1] * (8 - len(tokens))] for tokens in own])
    decoded = torch.stack([torch.randperm(50, generator=generator)[:10] for _ in range(60)])
    found = [set(tokens) & set(top) for tokens, top in zip(own, decoded.tolist(), strict=True)]
    assert global_alignment_rate(decoded, surface) == len(set().union(*found)) / len(set().union(*own))
    local = [len(hits) / len(tokens) for hits, tokens in zip(found, own, strict=True)]
    assert local_alignment_rate(decoded, surface) == pytest.approx(sum(local) / 60)
    assert hit_rate(decoded, surface) == pytest.approx(sum(map(bool, found)) / 60)
    assert 0 < global_alignment_rate(decoded, surface) < 1
    order = torch.randperm(60, generator=generator)
    assert global_alignment_rate(decoded[order].flip(1), surface[order].flip(1)) == global_alignment_rate(
        decoded, surface
    )


def test_a_sentence_without_tokens_does_not_count():
    surface, decoded = torch.tensor([[1, 2], [-1, -1]]), torch.tensor([[1, 9], [1, 2]])
    assert global_alignment_rate(decoded, surface) == 0.5
    assert local_alignment_rate(decoded, surface) == 0.5
    assert hit_rate(decoded, surface) == 1
