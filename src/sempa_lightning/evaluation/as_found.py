"""Evaluation leaves a model, and the generators of random numbers, as it found them."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from sempa_lightning.models.causal_lm import evaluating


@contextlib.contextmanager
def as_found(model: nn.Module, seed: int) -> Iterator[None]:
    """Lend a model in evaluation mode and without gradients, all generators of random numbers freshly seeded.

    Afterwards every module has its own mode back, every parameter its gradient and whether it has one, the adapter its
    state (active, switched off, merged), and Python, numpy and torch go on with their own random numbers: what is
    measured depends neither on what ran before nor changes what runs after. Weights are not copied; nobody may write
    to them.

    Args:
        model: The model.
        seed: Seeds Python, numpy and torch.
    """
    requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    gradients = {parameter: parameter.grad for parameter in requires_grad}
    for parameter in requires_grad:
        parameter.grad = None
    try:
        with _own_random_numbers(seed), evaluating(model), _adapters_as_found(model):
            yield
    finally:
        for parameter, value in requires_grad.items():
            parameter.requires_grad_(value)
            parameter.grad = gradients[parameter]


@contextlib.contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _adapters_as_found(model: nn.Module) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    found = [(layer.disable_adapters, list(layer.active_adapters), layer.merged) for layer in layers]
    try:
        yield
    finally:
        for layer, (disabled, active, merged) in zip(layers, found, strict=True):
            if layer.merged and not merged:
                layer.unmerge()
            if layer.active_adapters != active:
                layer.set_adapter(active)
            if layer.disable_adapters != disabled:
                layer.enable_adapters(not disabled)
