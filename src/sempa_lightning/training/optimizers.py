"""Factories of optimisers and learning-rate schedules, as a config hands them to the module."""

import math
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from sempa_lightning.check import CountOrZero, Share
from sempa_lightning.errors import UserError


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


def check_factories(optimizer: OptimizerFactory, scheduler: SchedulerFactory) -> None:
    """Build both on a single weight, so that a bad value is found before the model is loaded.

    Raises:
        UserError: If one cannot be built, or makes something else. The message begins with the key at fault.
    """
    built = _built("optimizer", optimizer, Optimizer, [{"params": [nn.Parameter(torch.zeros(1, 1))]}])
    _built("scheduler", scheduler, LRScheduler, built, num_steps=10)


def _built(group: str, factory: Any, wanted: type, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (a factory's)
    keywords = factory.keywords if isinstance(factory, partial) else {}
    for name, value in keywords.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{group}.{name}: expected a finite number, found {value}.")
    try:
        built = factory(*args, **kwargs)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{_key_at_fault(group, factory, *args, **kwargs)}: {reason}.") from error
    if not isinstance(built, wanted):
        raise UserError(
            f"{group}._target_: expected a factory of {wanted.__name__}, found one of {type(built).__name__}."
        )
    return built


def _key_at_fault(group: str, factory: Any, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401 (as above)
    """The key without which the factory works, else the group."""
    keywords = factory.keywords if isinstance(factory, partial) else {}
    for name in keywords:
        others = {other: value for other, value in keywords.items() if other != name}
        try:
            factory.func(*args, **others, **kwargs)
        except Exception:
            continue
        return f"{group}.{name}"
    return group


def cosine_with_warmup(optimizer: Optimizer, *, num_steps: int, warmup_ratio: Share) -> LRScheduler:
    """Rise linearly over the first `warmup_ratio` of the steps, then fall along half a cosine to 0."""
    warmup_steps = math.ceil(num_steps * warmup_ratio)  # rounded up, as in the Hugging Face trainer
    schedule: LambdaLR = get_cosine_schedule_with_warmup(optimizer, warmup_steps, num_steps)
    return schedule


def linear_with_warmup(optimizer: Optimizer, *, num_steps: int, warmup_steps: CountOrZero) -> LRScheduler:
    """Rise linearly over the first steps, then fall linearly to 0: the Hugging Face trainer's default."""
    schedule: LambdaLR = get_linear_schedule_with_warmup(optimizer, warmup_steps, num_steps)
    return schedule


def constant(optimizer: Optimizer, *, num_steps: int) -> LRScheduler:  # noqa: ARG001 (the protocol's signature)
    """Keep the learning rate as it is."""
    return LambdaLR(optimizer, lambda _: 1.0)
