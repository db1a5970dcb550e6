"""The frozen model that log-ratios are measured against."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import causal_lm, evaluating
from sempa_lightning.models.sharding import anywhere, device_of
from sempa_lightning.models.weights_hash import weights_hash
from sempa_lightning.scoring.logp_cache import LogpCache, key
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.types import PreferenceBatch


@runtime_checkable
class Reference(Protocol):
    """A frozen model, whatever it is made of."""

    def active(self, policy: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:
        """Lend the reference as a model that can be called."""

    def logps(self, policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
        """Log-probabilities of the completions under the reference, without gradient."""

    def weights(self, policy: nn.Module) -> dict[str, Tensor]:
        """What its log-probabilities follow from, by names that do not depend on how a policy is adapted."""


class AdapterDisabled:
    """The policy without its adapter: costs no memory.

    Args:
        policy: Must carry a fresh adapter; a policy that starts from a trained one needs `Frozen`.
        trained: The policy is what a fresh adapter became, and may differ from the reference.

    Raises:
        UserError: If the policy has no adapter, or one that changes its outputs already and shall not.
    """

    def __init__(self, policy: nn.Module, *, trained: bool = False) -> None:
        if not isinstance(policy, PeftModel):
            raise UserError("reference=adapter_disabled needs an adapter: set adapter=lora, or reference=frozen")
        if not trained and any("lora_B" in name and parameter.any() for name, parameter in policy.named_parameters()):
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

    def weights(self, policy: PeftModel) -> dict[str, Tensor]:
        """The weights below the adapter."""
        named = causal_lm(policy).named_parameters()
        return {_unadapted(name): weight for name, weight in named if not weight.requires_grad}


class Lent:
    """A model that is there already, as it is: the base of one that was trained, or the policy itself.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    @contextlib.contextmanager
    def active(self, policy: nn.Module) -> Iterator[nn.Module]:
        """Lend it in evaluation mode, on the policy's device."""
        with evaluating(self._model):
            yield self._model.to(device_of(policy))

    @torch.no_grad()
    def logps(self, policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
        """Score with it."""
        with self.active(policy) as model:
            return completion_logps(model, batch)

    def weights(self, policy: nn.Module) -> dict[str, Tensor]:  # noqa: ARG002
        """All its weights."""
        return {_unadapted(name): weight for name, weight in causal_lm(self._model).named_parameters()}


class Frozen(Lent):
    """A frozen copy of the policy as it was at the start: for full fine-tuning, or to go on from an adapter.

    Args:
        policy: What is copied.
    """

    def __init__(self, policy: nn.Module) -> None:
        super().__init__(copy.deepcopy(policy).requires_grad_(False))


class Cached:
    """Log-probabilities of another reference, computed once and kept on disk.

    A candidate is known by its token ids, under the reference's weights and the precision of the pass; nothing else
    changes a log-probability, so runs with another learning rate, β, rank, seed or layout of batches compute none
    again. A row that is not there yet is scored when it is needed, so a first run takes no longer than one without
    a cache. Batches with candidates of other anchors are scored live and not kept: hardly any of these pairs comes a
    second time, so that the cache would grow with every epoch and be of no use.

    Args:
        policy: As for every reference.
        live: Makes the reference, given the policy.
        cache_dir: Folder of the cache.
    """

    def __init__(self, policy: nn.Module, live: Callable[..., Reference], cache_dir: str) -> None:
        self._live = live(policy=policy)
        self._folder = local_path(cache_dir) / "reference"
        self._caches: dict[str, LogpCache] = {}

    def active(self, policy: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:
        """Lend the reference: what is not a log-probability of a completion is not kept."""
        return self._live.active(policy)

    def logps(self, policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
        """Look up; score the whole batch if a candidate of it is missing."""
        if any(row.num_in_batch for row in batch.rows):
            return self._live.logps(policy, batch)
        cache = self._cache(policy)
        keys = [key(row.prompt_ids, completion) for row in batch.rows for completion in row.completion_ids]
        known = cache.get(keys)
        if anywhere(known is None, policy):
            logps = self._live.logps(policy, batch)
            if not logps.isfinite().all():
                return logps
            cache.put(keys, logps[batch.candidate_mask].tolist())
            known = cache.get(keys)
        # What was there before counts: a run that is resumed finds the very values that the run has used.
        mask = batch.candidate_mask
        logps = torch.tensor(known, device=mask.device, dtype=torch.promote_types(_precision(policy), torch.float32))
        return logps.new_zeros(mask.shape).masked_scatter(mask, logps)

    def weights(self, policy: nn.Module) -> dict[str, Tensor]:
        """Those of the reference."""
        return self._live.weights(policy)

    def _cache(self, policy: nn.Module) -> LogpCache:
        """The cache of the precision that the pass runs in."""
        precision = str(_precision(policy)).removeprefix("torch.")
        if precision not in self._caches:
            name = weights_hash(policy, self._live.weights(policy), self._folder / "hashes")
            self._caches[precision] = LogpCache(self._folder / name / precision)
        return self._caches[precision]


class NoReference:
    """No reference at all, for objectives that need none.

    Args:
        policy: Taken, like every reference does, and not used.
    """

    def __init__(self, policy: nn.Module) -> None: ...

    def active(self, policy: nn.Module) -> contextlib.AbstractContextManager[nn.Module]:  # noqa: ARG002
        """Refuse: there is no model to lend."""
        raise UserError("this needs a reference model, but reference=none: choose another")

    def logps(self, policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:  # noqa: ARG002
        """Refuse: a loss over log-ratios would be another one without."""
        raise UserError("this loss needs a reference model, but reference=none: choose another, or loss=simpo")

    def weights(self, policy: nn.Module) -> dict[str, Tensor]:  # noqa: ARG002
        """None."""
        return {}


def _precision(policy: nn.Module) -> torch.dtype:
    """What a forward pass computes in here and now."""
    device = device_of(policy).type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else next(policy.parameters()).dtype


def _unadapted(name: str) -> str:
    """The name that a weight has in the model without an adapter around it."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
