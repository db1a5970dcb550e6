"""The frozen model: what it scores, and that lending it leaves the policy as found."""

import copy

import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import FullFineTuning, Lora
from sempa_lightning.scoring.padded import completion_logps
from sempa_lightning.scoring.reference import AdapterDisabled, Frozen, NoReference


@pytest.fixture
def base_logps(tiny_llama, batch):
    with torch.no_grad():
        return completion_logps(tiny_llama, batch)


@pytest.fixture
def lora(tiny_llama, base_logps):
    torch.manual_seed(0)
    return Lora(r=4, alpha=8, dropout=0.5, target_modules="all-linear").attach(tiny_llama)


def perturb(policy):
    """Move every trainable weight, as training would."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


def modes(model):
    return [module.training for module in model.modules()]


def flags(model):
    return [parameter.requires_grad for parameter in model.parameters()]


def test_adapter_disabled_is_exactly_the_base_model(lora, batch, base_logps):
    reference = AdapterDisabled(lora)
    assert torch.equal(reference.logps(lora, batch), base_logps)
    with torch.no_grad():
        assert torch.equal(completion_logps(lora.eval(), batch), base_logps), "a fresh adapter changes nothing"


def test_adapter_disabled_does_not_move_with_the_adapter(lora, batch, base_logps):
    reference = AdapterDisabled(lora)
    perturb(lora)
    with torch.no_grad():
        moved = completion_logps(lora.eval(), batch)
    assert (moved - base_logps).abs()[batch.candidate_mask].min() > 1e-4
    assert torch.equal(reference.logps(lora, batch), base_logps)


def test_adapter_disabled_leaves_the_adapter_on(lora, batch):
    reference = AdapterDisabled(lora)
    perturb(lora.eval())
    with torch.no_grad():
        before = completion_logps(lora, batch)
        reference.logps(lora, batch)
        assert torch.equal(completion_logps(lora, batch), before)


def test_adapter_disabled_leaves_the_adapter_on_after_an_error(lora, batch):
    reference = AdapterDisabled(lora)
    perturb(lora.eval())
    before = flags(lora)
    with torch.no_grad():
        expected = completion_logps(lora, batch)
    with pytest.raises(ZeroDivisionError), reference.active(lora):
        raise ZeroDivisionError
    assert flags(lora) == before
    with torch.no_grad():
        assert torch.equal(completion_logps(lora, batch), expected)


@pytest.mark.parametrize("frozen_layers", ["none", "first", "all"])
def test_adapter_disabled_leaves_trainable_flags_and_modes_as_found(lora, batch, frozen_layers):
    for name, parameter in lora.named_parameters():
        if frozen_layers == "all" or (frozen_layers == "first" and "layers.0." in name):
            parameter.requires_grad_(False)
    before, modes_before = flags(lora), modes(lora)
    assert any(before) == (frozen_layers != "all")
    assert len(set(modes_before)) == 2, "base in evaluation mode, adapter in training mode"
    reference = AdapterDisabled(lora)
    reference.logps(lora, batch)
    assert flags(lora) == before
    assert modes(lora) == modes_before


def test_gradients_flow_in_policy_forwards_before_and_after_the_reference(lora, batch):
    reference = AdapterDisabled(lora)
    perturb(lora.eval())

    def gradients(order):
        lora.zero_grad()
        if order == "no reference":
            logps = completion_logps(lora, batch)
        elif order == "policy first":
            logps = completion_logps(lora, batch)
            reference.logps(lora, batch)
        else:
            reference.logps(lora, batch)
            logps = completion_logps(lora, batch)
        logps.sum().backward()
        return [parameter.grad for parameter in lora.parameters() if parameter.requires_grad]

    expected = gradients("no reference")
    assert len(expected) == 2 * 7 * 2  # A and B of seven linear layers in two blocks
    assert all((gradient != 0).any() for gradient in expected)
    for order in ("policy first", "reference first"):
        assert all(torch.equal(got, want) for got, want in zip(gradients(order), expected, strict=True))


def test_adapter_disabled_is_without_dropout(lora, batch, base_logps):
    """Dropout of the policy is no reason for a reference that changes from step to step."""
    for module in lora.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    lora.train()
    assert not torch.allclose(completion_logps(lora, batch), base_logps)
    assert torch.equal(AdapterDisabled(lora).logps(lora, batch), base_logps)
    assert lora.training


def test_adapter_disabled_refuses_an_adapter_that_was_trained(lora):
    perturb(lora)
    with pytest.raises(UserError, match=r"set reference=frozen"):
        AdapterDisabled(lora)


def test_adapter_disabled_needs_an_adapter(tiny_llama):
    with pytest.raises(UserError, match=r"needs an adapter: set adapter=lora, or reference=frozen"):
        AdapterDisabled(tiny_llama)


@pytest.mark.parametrize("adapter", [FullFineTuning(), Lora(4, 8, 0.0, "all-linear")], ids=["full", "lora"])
def test_frozen_does_not_move_with_the_policy(tiny_llama, batch, base_logps, adapter):
    policy = adapter.attach(tiny_llama)
    reference = Frozen(policy)
    perturb(policy)
    assert torch.equal(reference.logps(policy, batch), base_logps)
    with torch.no_grad():
        assert not torch.allclose(completion_logps(policy, batch), base_logps)


def test_frozen_is_the_policy_as_it_was_with_its_adapter(lora, batch, base_logps):
    perturb(lora.eval())
    with torch.no_grad():
        start = completion_logps(lora, batch)
    reference = Frozen(lora)
    perturb(lora)
    assert torch.equal(reference.logps(lora, batch), start)
    assert not torch.allclose(start, base_logps)


def test_frozen_shares_nothing_and_is_not_trained(tiny_llama):
    policy = FullFineTuning().attach(tiny_llama).train()
    with Frozen(policy).active(policy) as model:
        assert not any(flags(model))
        assert not any(modes(model))
        assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in policy.parameters()}
    assert all(flags(policy))
    assert all(modes(policy))


@pytest.mark.parametrize("kind", [AdapterDisabled, Frozen])
def test_reference_has_no_gradient(lora, batch, kind):
    assert not kind(lora).logps(lora, batch).requires_grad


def test_the_lent_model_scores_as_the_reference_does(lora, batch, base_logps):
    reference = AdapterDisabled(lora)
    perturb(lora)
    original = copy.deepcopy(flags(lora))
    with torch.no_grad(), reference.active(lora) as model:
        assert torch.equal(completion_logps(model, batch), base_logps)
    assert flags(lora) == original


def test_no_reference_is_zero_and_lends_no_model(tiny_llama, batch):
    reference = NoReference(tiny_llama)
    assert torch.equal(reference.logps(tiny_llama, batch), torch.zeros(2, 3))
    with pytest.raises(UserError, match="reference=none"), reference.active(tiny_llama):
        pass
