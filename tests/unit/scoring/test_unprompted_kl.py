"""The KL term against unpadded texts."""

import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import FullFineTuning, Lora
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import AdapterDisabled, Frozen, NoReference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.types import TokenizedRow

ROWS = [
    TokenizedRow("a", [0, 5, 6, 7], [[8, 9, 0], [10, 0]], 1),
    TokenizedRow("b", [0, 11], [[12, 13, 21, 5, 0], [10, 0], [17, 0], [40, 41, 0]], 1),
    TokenizedRow("one token predicts nothing", [0, 21, 5, 9, 30, 31], [[0], [7, 0]], 1),
]


@pytest.fixture
def batch():
    return pad(ROWS, 0)


@pytest.fixture
def policy(tiny_llama):
    return FullFineTuning().attach(tiny_llama)


def moved(policy):
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return policy


def test_zero_before_training(policy, batch):
    assert unprompted_kl(policy, Frozen(policy), batch).abs().max() < 1e-6


def one_text_at_a_time(policy, reference):
    expected = []
    for row in ROWS:
        text = torch.tensor([[i for ids in row.completion_ids for i in ids[:-1]]])
        p = policy(input_ids=text).logits[0, :-1].double().softmax(-1)
        with reference.active(policy) as model:
            q = model(input_ids=text).logits[0, :-1].double().softmax(-1)
        expected.append(float((p * (p / q).log()).sum() / max(len(p), 1)))
    assert expected[0] > 0.01
    assert expected[2] == 0
    return expected


@torch.no_grad()
def test_equals_one_text_at_a_time(policy, batch):
    reference = Frozen(policy)
    moved(policy)
    found = unprompted_kl(policy, reference, batch).tolist()
    torch.testing.assert_close(found, one_text_at_a_time(policy, reference), rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("target_modules", ["all-linear", ["q_proj", "lm_head"], ["lm_head"]], ids=str)
def test_equals_one_text_at_a_time_with_an_adapter(tiny_llama, batch, target_modules):
    """Of the head, too: the reference has the head without it."""
    torch.manual_seed(0)
    policy = Lora(4, 8, 0.0, target_modules).attach(tiny_llama)
    reference = AdapterDisabled(policy)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    found = unprompted_kl(policy, reference, batch).tolist()
    torch.testing.assert_close(found, one_text_at_a_time(policy, reference), rtol=1e-4, atol=1e-6)


def test_candidates_of_others_are_not_counted(policy, batch):
    reference = Frozen(policy)
    moved(policy)
    more = [row._replace(completion_ids=[*row.completion_ids, [50, 51, 0]], num_in_batch=1) for row in ROWS]
    assert torch.equal(unprompted_kl(policy, reference, pad(more, 0)), unprompted_kl(policy, reference, batch))


def test_the_layout_does_not_matter(policy, batch):
    reference = Frozen(policy)
    moved(policy)
    packed = unprompted_kl(policy, reference, Packed(1000)(ROWS, 0))
    assert torch.equal(packed, unprompted_kl(policy, reference, batch))


def test_trains_the_policy_and_not_the_reference(policy, batch):
    reference = Frozen(policy)
    unprompted_kl(moved(policy), reference, batch).sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in policy.parameters())
    with reference.active(policy) as model:
        assert all(parameter.grad is None for parameter in model.parameters())


def test_needs_a_reference(policy, batch):
    with pytest.raises(UserError, match="reference=none"):
        unprompted_kl(policy, NoReference(policy), batch)
