"""A model whose weights are spread over processes (FSDP2)."""

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from sempa_lightning.models.causal_lm import decoder, decoder_layers, evaluating


def shard(policy: nn.Module, mesh: DeviceMesh, *, offload: bool) -> None:
    """Leave each process its part of every weight; a layer is brought together while it computes.

    What is in no layer (embeddings, final norm, head) is brought together when the decoder is entered, and stays so
    until the end of backward: the head's matrix is used outside of any module's forward pass. Embeddings and head that
    share a matrix go on sharing it. Weights keep their dtypes; autocast decides what is computed in.

    Args:
        policy: Its weights may be anywhere; they go to the mesh's device.
        mesh: One dimension of processes that each hold a part; or two, of which the first counts replicas (HSDP).
        offload: Keep the parts, their gradients and the optimiser's state in host memory.
    """
    policies = {True: CPUOffloadPolicy(pin_memory=mesh.device_type == "cuda"), False: OffloadPolicy()}
    options: dict[str, Any] = {"mesh": mesh, "offload_policy": policies[offload]}
    for layer in decoder_layers(policy):
        fully_shard(layer, **options)
    root = fully_shard(policy, **options)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # gradients are summed, as everywhere
            module.set_force_sum_reduction_for_comms(True)  # and by Gloo, too
    decoder(policy).register_forward_pre_hook(lambda *_: root.unshard())


def first_pass(policy: nn.Module) -> None:
    """Let FSDP see the policy as it will be trained: the module that is entered first, and what has gradients.

    It never looks again, and passes through the decoder alone, or with the adapter off, would tell it something else.
    """
    with torch.no_grad(), evaluating(policy):
        policy(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device_of(policy)), use_cache=False)


def is_sharded(policy: nn.Module) -> bool:
    """Whether processes hold parts of the policy's weights, and must go through it together."""
    return isinstance(policy, FSDPModule)


def anywhere(happened: bool, policy: nn.Module) -> bool:
    """Whether something happened in any of the processes that must go through the policy together."""
    if not is_sharded(policy):
        return happened
    flag = torch.tensor(float(happened), device=device_of(policy))
    torch.distributed.all_reduce(flag)
    return bool(flag)


def device_of(policy: nn.Module) -> torch.device:
    """Where a policy computes; a sharded one may keep its weights elsewhere."""
    parameter = next(policy.parameters())
    return torch.device(parameter.device_mesh.device_type) if isinstance(parameter, DTensor) else parameter.device


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which processes hold parts, brought together where they compute; all must ask for it."""
    if not isinstance(tensor, DTensor):
        return tensor
    here: Any = tensor.to(tensor.device_mesh.device_type)
    found: torch.Tensor = here.full_tensor()
    return found
