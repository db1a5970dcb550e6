"""What training takes on each device, counted on a model that has shapes and no weights."""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from sempa_lightning.models.causal_lm import causal_lm, decoder, decoder_layers, num_layers
from sempa_lightning.scoring.head import lm_head
from sempa_lightning.scoring.mask import tree_mask
from sempa_lightning.training.optimizers import OptimizerFactory, parameter_groups
from sempa_lightning.types import PackedSequences


@dataclass(frozen=True)
class Work:
    """What a device computes at once.

    Attributes:
        tokens: Tokens of a forward pass (`data.micro_batch_tokens`).
        scored: Tokens among them whose logits are needed.
        logits: How many of these have their logits at the same time: a chunk, or all of them in the plain layout.
        sequence_tokens: Tokens of a sequence, about (`scoring.sequence_tokens`).
        passes: Forward passes of the policy whose activations are there at the same time.
        autocast: Dtype that matrix products are computed in; None for that of the weights.
        checkpointing: Activations are kept at the borders of layers only (`model.gradient_checkpointing`).
    """

    tokens: int
    scored: int
    logits: int
    sequence_tokens: int
    passes: int = 1
    autocast: torch.dtype | None = None
    checkpointing: bool = False


@dataclass(frozen=True)
class Spread:
    """How a model lies on devices.

    Attributes:
        devices: How many there are; with replicas (HSDP), how many share one.
        sharded: Each holds a part of every weight and optimiser state (FSDP); else all of them (DDP). Gradients add up
            whole over the micro-batches of a step, and so does a frozen copy lie on each.
    """

    devices: int = 1
    sharded: bool = False


class Footprint(NamedTuple):
    """Bytes on each device at the moment of an optimiser step at which they are most.

    Attributes:
        frozen: Weights that are not trained, those of a frozen copy included.
        trained: Weights that are.
        gradients: Theirs.
        optimizer: State of the optimiser.
        exchanged: What a device holds for the others: buckets of gradients (DDP), or the weights of the two layers that
            are whole at the same time and of what is in no layer (FSDP).
        activations: What forward keeps for backward.
        working: What the language-model head has in hand, or else backward.
        flops: Not bytes: multiplications and additions of all passes over the tokens of `Work`, forward and backward.
    """

    frozen: int
    trained: int
    gradients: int
    optimizer: int
    exchanged: int
    activations: int
    working: int
    flops: int

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self[:-1])


def footprint(
    policy: nn.Module, optimizer: OptimizerFactory, work: Work, spread: Spread, *, frozen_copies: int = 0
) -> Footprint:
    """Count what a policy takes.

    Sizes of weights, gradients and optimiser are exact, and so is what forward keeps: the policy's own code is run, on
    tensors without storage. What is in hand meanwhile is estimated. Left out: what the allocator wastes, and what
    libraries hold for themselves (for CUDA about half a GiB).

    Args:
        policy: On the meta device, its adapter attached; not checkpointing.
        optimizer: Makes the optimiser.
        work: What a device computes.
        spread: How many devices, and how.
        frozen_copies: Copies of the policy that serve as the reference.
    """
    trained = sum(parameter.nbytes for parameter in policy.parameters() if parameter.requires_grad)
    whole = sum(parameter.nbytes for parameter in policy.parameters())
    state = optimizer_bytes(policy, optimizer)
    shares = spread.devices if spread.sharded else 1
    one = count_pass(policy, work)
    layer, kept, forwards = one.saved / num_layers(policy), one.saved, 1
    if work.checkpointing:
        kept, forwards = _borders(policy, work.tokens), 2
    head = lm_head(policy)
    # Logits and their logarithm in float32; the copy in half precision that goes into the next product; the gradient,
    # which a frozen head writes into the logarithm's place.
    at_once = 8 + (0 if work.autocast is None else 2) + (0 if head.frozen_linear else 4)
    # A frozen head is multiplied with twice; another one is computed again in backward, and has a gradient.
    products = 4 if head.frozen_linear else 8
    return Footprint(
        frozen=ceil((whole - trained) / shares) + frozen_copies * whole,
        trained=ceil(trained / shares),
        gradients=trained,
        optimizer=ceil(state / shares),
        exchanged=_exchanged(policy, whole, trained, spread),
        activations=work.passes * kept,
        # Backward has gradients of about a third of a layer's size, and a checkpointed layer's activations, too.
        working=max(work.logits * head.vocab_size * at_once, round((forwards - 0.65) * layer)),
        flops=work.passes
        * (forwards * one.forward + one.backward + products * work.scored * _width(policy) * head.vocab_size),
    )


class Pass(NamedTuple):
    """What one pass through a decoder takes.

    Attributes:
        saved: Bytes that forward keeps for backward.
        forward: Multiplications and additions of matrix products and attention.
        backward: The same.
    """

    saved: int
    forward: int
    backward: int


def count_pass(policy: nn.Module, work: Work) -> Pass:
    """Run a policy's decoder forward and backward on tensors without storage, as the packed layout runs it."""
    backbone = decoder(policy)
    rows = ceil(work.tokens / work.sequence_tokens)
    shape = (rows, ceil(work.tokens / rows))
    counter = FlopCounterMode(display=False)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with FakeTensorMode():
        named = [*backbone.named_parameters(), *backbone.named_buffers()]
        weights = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad)
            for name, tensor in named
        }
        ids, ends = torch.zeros(shape, dtype=torch.long), torch.full(shape, shape[1])
        none = torch.zeros(0, dtype=torch.long)
        mask = tree_mask(PackedSequences(ids, ids, ends, none, none, none), backbone)
        inputs = {"input_ids": ids, "position_ids": ids, "attention_mask": mask, "use_cache": False}
        autocast = torch.autocast("cpu", work.autocast or torch.bfloat16, enabled=work.autocast is not None)
        with counter, autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            states = functional_call(backbone, weights, kwargs=inputs).last_hidden_state
        forward = counter.get_total_flops()
        for weight in weights.values():
            kept.pop(weight.untyped_storage()._cdata, None)
        saved = sum(storage.nbytes() for storage in kept.values())
        with counter:
            states.sum().backward()
    return Pass(saved, forward, counter.get_total_flops())


def optimizer_bytes(policy: nn.Module, factory: OptimizerFactory) -> int:
    """State of an optimiser after its first step, which makes it."""
    optimizer = factory(parameter_groups(policy))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    for parameter in parameters:
        parameter.grad = None
    states = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in states if isinstance(value, torch.Tensor))


def _borders(policy: nn.Module, tokens: int) -> int:
    """The input of each layer, and that of the final norm, which norms compute in float32."""
    return tokens * _width(policy) * (num_layers(policy) * next(policy.parameters()).itemsize + 4)


def _width(policy: nn.Module) -> int:
    return int(causal_lm(policy).config.get_text_config().hidden_size)


def _exchanged(policy: nn.Module, whole: int, trained: int, spread: Spread) -> int:
    if spread.devices == 1:
        return 0
    if not spread.sharded:
        return trained
    layers = [sum(parameter.nbytes for parameter in layer.parameters()) for layer in decoder_layers(policy)]
    return whole - sum(layers) + 2 * max(layers)
