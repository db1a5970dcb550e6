"""InfoNCE: by hand, and against sentence-transformers."""

import math

import pytest
import torch

from sempa_lightning.losses.info_nce import InfoNce, info_nce

NOTHING = torch.zeros(1, 3, dtype=torch.bool)


def test_by_hand():
    logits = torch.tensor([[math.log(3.0), math.log(2.0), math.log(5.0)]])
    torch.testing.assert_close(info_nce(logits, torch.tensor([1]), NOTHING), torch.tensor([math.log(10 / 2)]))
    last_out = torch.tensor([[False, False, True]])
    torch.testing.assert_close(info_nce(logits, torch.tensor([1]), last_out), torch.tensor([math.log(5 / 2)]))


def test_the_positive_always_counts():
    everything = torch.ones(1, 3, dtype=torch.bool)
    assert info_nce(torch.randn(1, 3), torch.tensor([2]), everything).item() == 0


def test_the_gradient_of_what_is_left_out_is_zero():
    logits = torch.tensor([[1.0, 2.0, 300.0]], requires_grad=True)
    info_nce(logits, torch.tensor([0]), torch.tensor([[False, False, True]])).sum().backward()
    assert logits.grad[0, 2] == 0
    torch.testing.assert_close(logits.grad[0, :2], torch.tensor([-1.0, 1.0]) * torch.sigmoid(torch.tensor(1.0)))


@pytest.fixture
def embeddings():
    """Anchors, positives and hard negatives of 6 rows, in float64."""
    return torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()


class Given(torch.nn.Module):
    """Hands sentence-transformers' losses embeddings that are there already."""

    def forward(self, features):
        return features


@pytest.mark.parametrize("temperature", [0.05, 0.2])
def test_as_sentence_transformers(embeddings, temperature):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    anchors, positives, negatives = embeddings
    peer = MultipleNegativesRankingLoss(Given(), scale=1 / temperature)
    expected = peer.compute_loss_from_embeddings([anchors, positives, negatives], labels=None)
    candidates, nothing = torch.cat([positives, negatives]), torch.zeros(6, 12, dtype=torch.bool)
    found = InfoNce(temperature)(anchors, candidates, torch.arange(6), nothing, nothing)
    torch.testing.assert_close(found.mean(), expected, atol=1e-9, rtol=0)


def test_both_directions_as_sentence_transformers(embeddings):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    anchors, positives, _ = embeddings
    both = ("query_to_doc", "doc_to_query")
    peer = MultipleNegativesRankingLoss(Given(), scale=20.0, directions=both, partition_mode="per_direction")
    expected = peer.compute_loss_from_embeddings([anchors, positives], labels=None)
    nothing = torch.zeros(6, 6, dtype=torch.bool)
    found = InfoNce(0.05, symmetric=True)(anchors, positives, torch.arange(6), nothing, nothing)
    torch.testing.assert_close(found.mean(), expected, atol=1e-9, rtol=0)


def test_a_hard_negative_counts_as_if_it_stood_there_several_times(embeddings):
    anchors, positives, negatives = embeddings
    own = torch.cat([torch.zeros(6, 6, dtype=torch.bool), torch.eye(6, dtype=torch.bool)], dim=1)
    candidates, nothing = torch.cat([positives, negatives]), torch.zeros_like(own)
    found = InfoNce(0.05, hard_negative_weight=math.log(3))(anchors, candidates, torch.arange(6), own, nothing)
    for row in range(6):
        three_times = torch.cat([candidates, negatives[row : row + 1], negatives[row : row + 1]])
        none = torch.zeros(1, 14, dtype=torch.bool)
        expected = InfoNce(0.05)(anchors[row : row + 1], three_times, torch.tensor([row]), none, none)
        torch.testing.assert_close(found[row], expected[0])
