import random

import numpy as np
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from sempa_lightning.evaluation.as_found import as_found
from sempa_lightning.models.adapters import Lora


@pytest.fixture
def policy(tiny_llama):
    """A policy in the middle of training: gradients, one block in evaluation mode, frozen weights."""
    policy = Lora(r=2, alpha=4, dropout=0.0, target_modules="all-linear").attach(tiny_llama).train()
    policy.base_model.model.model.layers[0].eval()
    policy(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    return policy


def state(model):
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    modes = [module.training for module in model.modules()]
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    adapters = [(layer.disable_adapters, list(layer.active_adapters), layer.merged) for layer in layers]
    return gradients, trainable, modes, adapters


def assert_same(one, other):
    assert one[1:] == other[1:]
    assert one[0].keys() == other[0].keys()
    for name, gradient in one[0].items():
        assert (gradient is None) == (other[0][name] is None)
        assert gradient is None or torch.equal(gradient, other[0][name])


def disturb(policy):
    """All that a task could do to a model but writing to its weights."""
    policy.train()
    policy.requires_grad_(True)
    with policy.disable_adapter():
        policy(input_ids=torch.tensor([[4, 5]])).logits.sum().backward()
    policy.merge_adapter()
    policy.base_model.disable_adapter_layers()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("switched_off", [False, True])
def test_the_model_is_left_as_it_was(policy, fails, switched_off):
    if switched_off:
        policy.base_model.disable_adapter_layers()
    before, ids = state(policy), torch.tensor([[1, 2, 3]])
    assert sum(gradient is not None for gradient in before[0].values()) > 4
    assert len(set(before[2])) == 2
    assert before[3][0][0] == switched_off
    logits = policy(input_ids=ids).logits
    try:
        with as_found(policy, 0):
            assert not any(module.training for module in policy.modules())
            assert all(parameter.grad is None for parameter in policy.parameters())
            disturb(policy)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert_same(state(policy), before)
    assert torch.allclose(policy(input_ids=ids).logits, logits, atol=1e-5)


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_random_numbers_start_from_the_seed_and_go_on_afterwards(tiny_llama):
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = [draw(), draw()]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    first = draw()
    inside = []
    for seed in (1, 1, 2):
        with as_found(tiny_llama, seed):
            inside.append(draw())
    assert [first, draw()] == expected
    assert inside[0] == inside[1]
    assert all(one != two for one, two in zip(inside[0], inside[2], strict=True))
