"""What the forward pass of a model takes, and whether it is causal: architectures differ, and say so in code only."""

import inspect
import traceback
import weakref
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import causal_lm, decoder, evaluating
from sempa_lightning.models.sharding import device_of

# Tokens that the probe of `check_causal` keeps, and those behind them that it changes.
_KEPT, _CHANGED = 8, 8

# Policies that have passed `check_causal`.
_CAUSAL: weakref.WeakSet[nn.Module] = weakref.WeakSet()

# What a forward pass raises where a model does not take its inputs.
FORWARD_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    TypeError,
    ValueError,
    RuntimeError,
)


def takes(module: nn.Module, name: str) -> bool:
    """Return whether the forward pass of a module names this input, or names none and hands all on."""
    parameters = inspect.signature(module.forward).parameters
    return name in parameters or "input_ids" not in parameters


def accepted(module: nn.Module, **inputs: Any) -> dict[str, Any]:  # noqa: ANN401 (what the library takes)
    """Keep the inputs that the forward pass of a module names; one of any other name would be ignored or refused."""
    return {name: value for name, value in inputs.items() if takes(module, name)}


def relative_difference(found: Float[Tensor, "..."], expected: Float[Tensor, "..."]) -> float:
    """Return the norm of the difference over the norm of what is expected, in float32; infinite for other shapes."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.float(), expected.float()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


def tolerance(policy: nn.Module) -> float:
    """Return the relative difference of hidden states that rounding explains, by the dtype of the weights."""
    return 1e-3 if next(policy.parameters()).dtype in (torch.float32, torch.float64) else 0.05


def leak_tolerance(policy: nn.Module) -> float:
    """Return the relative difference that rounding explains between passes of the same shape."""
    return 3e-5 if next(policy.parameters()).dtype in (torch.float32, torch.float64) else 0.02


@torch.no_grad()
def check_causal(policy: nn.Module, *, again: bool = False) -> None:
    """Change the last tokens of a probe and compare the hidden states of the tokens before them.

    Both versions are rows of one batch, so that a causal model gives the same states up to rounding. Right padding,
    prompts with a common prefix and next-token prediction all rest on this.

    Args:
        policy: A language model; one that has passed is not probed a second time.
        again: Probe it in any case, as processes that share the weights must do alike.

    Raises:
        UserError: If the states depend on later tokens, or the model does not run on plain token ids.
    """
    backbone = decoder(policy)
    if policy in _CAUSAL and not again:
        return
    size = _vocab_size(policy)
    kept = torch.arange(1, 1 + _KEPT)
    first, second = kept + _KEPT, kept.flip(0) + 3 * _KEPT
    ids = torch.stack([torch.cat([kept, tail]) for tail in (first[:_CHANGED], second[:_CHANGED])]) % size
    name = type(causal_lm(policy)).__name__
    try:
        with evaluating(policy), torch.autocast(device_of(policy).type, enabled=False):
            output = backbone(**accepted(backbone, input_ids=ids.to(device_of(policy)), use_cache=False))
            states = output.last_hidden_state[:, :_KEPT]
    except torch.OutOfMemoryError:
        raise
    except FORWARD_ERRORS as error:
        if (layer := _adapted_layer(policy, error)) is not None:
            raise UserError(
                f"adapter.target_modules: {layer} of {name} cannot carry an adapter ({brief(error)}): name it in"
                " adapter.exclude_modules"
            ) from error
        raise UserError(
            f"model.path: {name} cannot be used as a plain causal language model: {brief(error)}"
        ) from error
    # The states of a model that diverges are not finite: training names the rows.
    if states.isfinite().all() and relative_difference(states[1], states[0]) > leak_tolerance(policy):
        raise UserError(
            f"model.path: {name} is no causal language model as it is configured: hidden states change with later"
            " tokens. Choose a decoder-only model (an encoder such as BERT needs is_decoder: true in its config.json)"
        )
    _CAUSAL.add(policy)


def brief(error: BaseException) -> str:
    """Return the message of an error in one line, with its type where the message alone says nothing."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"


def _adapted_layer(policy: nn.Module, error: BaseException) -> str | None:
    """Name of the innermost adapted layer in which an error was raised, as the model without adapter has it."""
    names = {module: name for name, module in causal_lm(policy).named_modules()}
    frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layers = [names.get(owner) for owner in frames if isinstance(owner, BaseTunerLayer)]
    return layers[-1] if layers else None


def _vocab_size(policy: nn.Module) -> int:
    embedding: Any = causal_lm(policy).get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None)
    return int(rows or causal_lm(policy).config.get_text_config(decoder=True).vocab_size)
