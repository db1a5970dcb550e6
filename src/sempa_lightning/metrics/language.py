"""How well a language model predicts text: negative log-likelihood, next-token accuracy, divergence from another."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def token_nll(
    logits: Float[Tensor, "sequences tokens vocab"],
    input_ids: Int[Tensor, "sequences tokens"],
    target_mask: Bool[Tensor, "sequences tokens"],
) -> Float[Tensor, "sequences tokens"]:
    """Negative log-probability of each target token given those before it, in nats; 0 elsewhere.

    The softmax is computed in float32 whatever the dtype of the logits. `target_mask[:, 0]` must be False.
    """
    nll = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), input_ids[:, 1:], reduction="none")
    return F.pad(nll * target_mask[:, 1:], (1, 0))


def token_hits(
    logits: Float[Tensor, "sequences tokens vocab"],
    input_ids: Int[Tensor, "sequences tokens"],
    target_mask: Bool[Tensor, "sequences tokens"],
) -> Bool[Tensor, "sequences tokens"]:
    """Where the most probable next token is the target token."""
    return F.pad(logits[:, :-1].argmax(-1) == input_ids[:, 1:], (1, 0)) & target_mask


def token_kl(
    logits: Float[Tensor, "sequences tokens vocab"],
    reference_logits: Float[Tensor, "sequences tokens vocab"],
    target_mask: Bool[Tensor, "sequences tokens"],
) -> Float[Tensor, "sequences tokens"]:
    """KL(policy ‖ reference) of the next-token distributions at each target token, in nats; 0 elsewhere."""
    policy = logits[:, :-1].float().log_softmax(-1)
    reference = reference_logits[:, :-1].float().log_softmax(-1)
    divergence = (policy.exp() * (policy - reference)).sum(-1)
    return F.pad(divergence * target_mask[:, 1:], (1, 0))
