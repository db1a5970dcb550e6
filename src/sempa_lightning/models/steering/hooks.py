"""Changing what a module gets, for a while."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

_Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@contextlib.contextmanager
def rewriting(changes: Mapping[nn.Module, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the first input of modules by a function of it, as long as the block lasts."""
    with contextlib.ExitStack() as handles:
        for module, change in changes.items():
            handles.enter_context(module.register_forward_pre_hook(_hook(change), with_kwargs=True))
        yield


def _hook(change: Callable[[Tensor], Tensor]) -> Callable[..., _Inputs]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Inputs:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return hook
