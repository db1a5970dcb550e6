"""The frozen model that log-ratios are measured against."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import evaluating
from sempa_lightning.scoring.padded import completion_logps
from sempa_lightning.types import PreferenceBatch


@runtime_checkable
class Reference(Protocol):
    """A frozen model, whatever it is made of."""

    def active(self, policy: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:
        """Lend the reference as a model that can be called."""

    def logps(self, policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
        """Log-probabilities of the completions under the reference, without gradient."""


class AdapterDisabled:
    """The policy without its adapter: costs no memory.

    Args:
        policy: Must carry a fresh adapter; a policy that starts from a trained one needs `Frozen`.

    Raises:
        UserError: If the policy has no adapter, or one that changes its outputs already.
    """

    def __init__(self, policy: nn.Module) -> None:
        if not isinstance(policy, PeftModel):
            raise UserError("reference=adapter_disabled needs an adapter: set adapter=lora, or reference=frozen")
        if any("lora_B" in name and parameter.any() for name, parameter in policy.named_parameters()):
            raise UserError(
                "with its adapter off this policy is not the model that training starts from: set reference=frozen"
            )

    @contextlib.contextmanager
    def active(self, policy: PeftModel) -> Iterator[nn.Module]:
        """Switch adapter and dropout off for as long as the context lasts."""
        # peft marks the whole adapter as trainable when it switches it on again.
        trainable = {parameter: parameter.requires_grad for parameter in policy.parameters()}
        try:
            with evaluating(policy), policy.disable_adapter():
                yield policy
        finally:
            for parameter, requires_grad in trainable.items():
                parameter.requires_grad_(requires_grad)

    @torch.no_grad()
    def logps(self, policy: PeftModel, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
        """Score with the adapter switched off."""
        with self.active(policy) as model:
            return completion_logps(model, batch)


class Frozen:
    """A frozen copy of the policy as it was at the start: for full fine-tuning, or to go on from an adapter."""

    def __init__(self, policy: nn.Module) -> None:
        self._model = copy.deepcopy(policy).requires_grad_(False).eval()

    @contextlib.contextmanager
    def active(self, policy: nn.Module) -> Iterator[nn.Module]:
        """Lend the copy, on the policy's device."""
        yield self._model.to(next(policy.parameters()).device)

    @torch.no_grad()
    def logps(self, policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
        """Score with the copy."""
        with self.active(policy) as model:
            return completion_logps(model, batch)


class NoReference:
    """No reference at all: its log-probabilities are 0, for objectives that need none.

    Args:
        policy: Taken, like every reference does, and not used.
    """

    def __init__(self, policy: nn.Module) -> None: ...

    def active(self, policy: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:  # noqa: ARG002
        """Refuse: there is no model to lend."""
        raise UserError("this needs a reference model, but reference=none")

    def logps(self, policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:  # noqa: ARG002
        """Zeros."""
        return torch.zeros(batch.candidate_mask.shape, device=batch.input_ids.device)
