"""From hidden states to log-probabilities and divergences of tokens, without ever holding all logits.

With a frozen linear head the gradient with respect to the states is formed while the logits are there, so backward
multiplies no matrix; with any other head each chunk is computed again in backward. Either way peak memory does not
depend on the number of tokens times the size of the vocabulary.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sempa_lightning.models.causal_lm import causal_lm

# Logits that exist at once: 64 MiB in float32.
_MAX_LOGITS = 2**24


class LmHead(NamedTuple):
    """The last layer of a language model, and what the model does to its outputs.

    Attributes:
        layer: From hidden states to logits.
        vocab_size: Number of logits.
        scale: Logits are multiplied by this.
        softcap: Then squashed to between -softcap and softcap, as softcap · tanh(logits / softcap); None leaves them.
    """

    layer: nn.Module
    vocab_size: int
    scale: float
    softcap: float | None

    @property
    def frozen_linear(self) -> bool:
        """Whether it is one matrix without gradient."""
        return isinstance(self.layer, nn.Linear) and not any(p.requires_grad for p in self.layer.parameters())

    def logits(self, states: Tensor) -> Tensor:
        """Logits over the vocabulary, float32 at least."""
        logits: Tensor = _wide(self.layer(states)) * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def log_softmax(self, states: Tensor) -> Tensor:
        """Log-probabilities over the vocabulary, float32 at least."""
        return self.logits(states).log_softmax(-1)


def lm_head(policy: nn.Module) -> LmHead:
    """The policy's head, with what its config says of scale and soft-cap (Gemma, Cohere, Granite, Falcon-H1)."""
    model = causal_lm(policy)
    layer, config = model.get_output_embeddings(), model.config.get_text_config()
    if getattr(layer, "disable_adapters", False):  # else an adapter on the head would be on again when it is used
        layer = layer.base_layer
    factors = [getattr(config, name, None) or 1 for name in ("logit_scale", "lm_head_multiplier")]
    scale = math.prod(factors) / (getattr(config, "logits_scaling", None) or 1)
    return LmHead(layer, config.vocab_size, scale, getattr(config, "final_logit_softcapping", None))


def target_logps(
    states: Float[Tensor, "states hidden"],
    head: LmHead,
    predictors: Int[Tensor, " scored"],
    targets: Int[Tensor, " scored"],
) -> Float[Tensor, " scored"]:
    """Log-probability of each target given the state that predicts it, in nats, float32 at least.

    Args:
        states: Distinct states.
        head: The language-model head.
        predictors: The state that predicts each target; several targets may have the same one.
        targets: Token ids.
    """
    if head.frozen_linear:
        inputs = (states, head, predictors, targets, _needs_gradient(states))
        logps: Tensor = _TargetLogps.apply(*inputs)  # type: ignore[no-untyped-call]
        return logps

    def chunk_logps(chunk: Tensor, predictor: Tensor, target: Tensor) -> Tensor:
        return head.log_softmax(chunk)[predictor, target]

    parts, places = [], []
    for first, (chunk,) in _chunks(head, states):
        place = _predicted(predictors, first, len(chunk))
        places.append(place)
        parts.append(checkpoint(chunk_logps, chunk, predictors[place] - first, targets[place], use_reentrant=False))
    return torch.cat(parts)[torch.cat(places).argsort()]


def divergences(
    states: Float[Tensor, "tokens hidden"],
    head: LmHead,
    reference_states: Float[Tensor, "tokens hidden"],
    reference_head: LmHead,
) -> Float[Tensor, " tokens"]:
    """KL(policy ‖ reference) of the next-token distributions at each state, in nats, float32 at least.

    Gradients flow to the policy's states alone.
    """
    if head.frozen_linear:
        inputs = (states, head, reference_states, reference_head, _needs_gradient(states))
        kl: Tensor = _Divergences.apply(*inputs)  # type: ignore[no-untyped-call]
        return kl

    def chunk_kl(chunk: Tensor, reference_chunk: Tensor) -> Tensor:
        with torch.no_grad():
            reference = reference_head.log_softmax(reference_chunk)
        policy = head.log_softmax(chunk)
        return (policy.exp() * (policy - reference)).sum(-1)

    chunks = _chunks(head, states, reference_states)
    return torch.cat([checkpoint(chunk_kl, *chunk, use_reentrant=False) for _, chunk in chunks])


class _TargetLogps(torch.autograd.Function):
    """Each log-probability depends on one state alone: its gradient there is (one-hot - softmax) · weight."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        states: Tensor,
        head: LmHead,
        predictors: Tensor,
        targets: Tensor,
        with_gradient: bool,
    ) -> Tensor:
        matrix = _Matrix(head, states)
        logps = states.new_empty(len(targets), dtype=torch.promote_types(states.dtype, torch.float32))
        slopes, expected = torch.ones_like(logps), []
        for first, (chunk,) in _chunks(head, states):
            place = _predicted(predictors, first, len(chunk))
            predictor, target = predictors[place] - first, targets[place]
            logits = matrix.logits(chunk)
            log_softmax = logits.log_softmax(-1)
            logps[place] = log_softmax[predictor, target]
            if with_gradient:
                softmax = log_softmax.exp_()
                if (slope := matrix.softcap_slope(logits)) is not None:
                    softmax *= slope
                    slopes[place] = slope[predictor, target]
                expected.append(matrix.gradient(softmax))
        if with_gradient:
            ctx.matrix = matrix
            ctx.save_for_backward(predictors, targets, slopes, torch.cat(expected).to(states.dtype))
        return logps

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401
        predictors, targets, slopes, expected = ctx.saved_tensors
        total = expected.new_zeros(len(expected)).index_add(0, predictors, upstream.to(expected.dtype))
        gradient = -total[:, None] * expected
        gradient.index_add_(0, predictors, (upstream * slopes).to(expected.dtype)[:, None] * ctx.matrix.rows(targets))
        return gradient, None, None, None, None


class _Divergences(torch.autograd.Function):
    """With d = log p - log q, the divergence is Σ p·d, and its gradient with respect to the logits p·(d - Σ p·d)."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        states: Tensor,
        head: LmHead,
        reference_states: Tensor,
        reference_head: LmHead,
        with_gradient: bool,
    ) -> Tensor:
        kls, gradients, matrix = [], [], _Matrix(head, states)
        for _, (chunk, reference_chunk) in _chunks(head, states, reference_states):
            logits = matrix.logits(chunk)
            policy = logits.log_softmax(-1)
            difference = policy - reference_head.log_softmax(reference_chunk)
            policy.exp_()
            kl = (policy * difference).sum(-1)
            kls.append(kl)
            if with_gradient:
                gradient = difference.sub_(kl[:, None]).mul_(policy)
                if (slope := matrix.softcap_slope(logits)) is not None:
                    gradient *= slope
                gradients.append(matrix.gradient(gradient))
        if with_gradient:
            ctx.save_for_backward(torch.cat(gradients).to(states.dtype))
        return torch.cat(kls)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return upstream[:, None].to(gradient.dtype) * gradient, None, None, None, None


class _Matrix:
    """A frozen linear head, its weight cast once to the dtype that autocast computes in.

    Args:
        head: The head.
        states: What it is applied to.
    """

    def __init__(self, head: LmHead, states: Tensor) -> None:
        layer: Any = head.layer
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.weight.dtype
        self._head = head
        self._weight = layer.weight.to(dtype)
        self._bias = None if layer.bias is None else layer.bias.to(dtype)

    def logits(self, states: Tensor) -> Tensor:
        """Logits, float32 at least, in memory of their own."""
        logits = _wide(F.linear(states.to(self._weight.dtype), self._weight, self._bias))
        if self._head.scale != 1:
            logits.mul_(self._head.scale)
        if self._head.softcap is not None:
            logits.div_(self._head.softcap).tanh_().mul_(self._head.softcap)
        return logits

    def softcap_slope(self, logits: Tensor) -> Tensor | None:
        """Derivative of the soft-cap at these logits; None for 1."""
        return None if self._head.softcap is None else 1 - (logits / self._head.softcap) ** 2

    def gradient(self, gradient: Tensor) -> Tensor:
        """From the gradient of the logits, before the soft-cap, to that of the states."""
        summed: Tensor = gradient.to(self._weight.dtype) @ self._weight
        return summed.mul_(self._head.scale)

    def rows(self, targets: Tensor) -> Tensor:
        """Gradient of each target's logit, before the soft-cap, with respect to the state."""
        rows: Tensor = self._weight[targets]
        return rows * self._head.scale


def chunk_size(vocab_size: int) -> int:
    """How many states have their logits at once."""
    return max(1, _MAX_LOGITS // vocab_size)


def _chunks(head: LmHead, *columns: Tensor) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Pieces of the columns whose logits fit, each with the place of its first row."""
    size = chunk_size(head.vocab_size)
    pieces = zip(*(torch.split(column, size) for column in columns), strict=True)
    return ((number * size, piece) for number, piece in enumerate(pieces))


def _predicted(predictors: Tensor, first: int, count: int) -> Tensor:
    """Places of the targets that are predicted by `count` states from the first on."""
    return ((predictors >= first) & (predictors < first + count)).nonzero()[:, 0]


def _wide(logits: Tensor) -> Tensor:
    """In float32, or float64 where the model computes in that."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _needs_gradient(states: Tensor) -> bool:
    return torch.is_grad_enabled() and states.requires_grad
