"""Factories of optimisers and learning-rate schedules, as a config hands them to the module."""

import math
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup


@runtime_checkable
class OptimizerFactory(Protocol):
    """Makes an optimiser of parameter groups."""

    def __call__(self, params: list[dict[str, Any]]) -> Optimizer:
        """Build the optimiser."""


@runtime_checkable
class SchedulerFactory(Protocol):
    """Makes a schedule, stepped once after each optimiser step."""

    def __call__(self, optimizer: Optimizer, *, num_steps: int) -> LRScheduler:
        """Build the schedule of a run of `num_steps` steps."""


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Split trainable parameters in two: matrices, and vectors (biases, norms), which are not decayed."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trainable if parameter.ndim > 1]},
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def cosine_with_warmup(optimizer: Optimizer, *, num_steps: int, warmup_ratio: float) -> LRScheduler:
    """Rise linearly over the first `warmup_ratio` of the steps, then fall along half a cosine to 0."""
    warmup_steps = math.ceil(num_steps * warmup_ratio)  # rounded up, as in the Hugging Face trainer
    schedule: LambdaLR = get_cosine_schedule_with_warmup(optimizer, warmup_steps, num_steps)
    return schedule


def linear_with_warmup(optimizer: Optimizer, *, num_steps: int, warmup_steps: int) -> LRScheduler:
    """Rise linearly over the first steps, then fall linearly to 0: the Hugging Face trainer's default."""
    schedule: LambdaLR = get_linear_schedule_with_warmup(optimizer, warmup_steps, num_steps)
    return schedule


def constant(optimizer: Optimizer, *, num_steps: int) -> LRScheduler:  # noqa: ARG001 (the protocol's signature)
    """Keep the learning rate as it is."""
    return LambdaLR(optimizer, lambda _: 1.0)
