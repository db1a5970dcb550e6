"""What all processes compute before they exchange something."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from sempa_lightning.models.sharding import is_sharded

Found = TypeVar("Found")


def together(policy: nn.Module, compute: Callable[[], Found]) -> Found:
    """Compute something in all processes; one that runs out of memory does not leave the others waiting for its part.

    A sharded policy's processes cannot help it: they wait in the middle of a forward pass.

    Raises:
        torch.OutOfMemoryError: In all processes, if it happens in one.
    """
    if is_sharded(policy) or not torch.distributed.is_initialized():
        return compute()
    failed = torch.zeros((), device=next(policy.parameters()).device)
    found: list[Found] = []
    try:
        found.append(compute())
    except torch.OutOfMemoryError:
        failed += 1
    torch.distributed.all_reduce(failed)
    if failed:
        raise torch.OutOfMemoryError
    return found[0]
