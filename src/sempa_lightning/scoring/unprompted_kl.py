"""How far the policy has moved from the reference where no prompt asks for a paraphrase."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sempa_lightning.metrics.language import token_kl
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.types import PreferenceBatch


def unprompted_kl(policy: nn.Module, reference: Reference, batch: PreferenceBatch) -> Float[Tensor, " anchors"]:
    """KL(policy ‖ reference) on the candidates as plain text, without the prompt, in nats.

    Of the next-token distributions: mean over the tokens of a candidate, then over the candidates of an anchor.
    Candidates are natural sentences, so this holds the language model in place on plain text and leaves the policy free
    where preferences speak. A candidate of one token predicts nothing and counts as 0. Gradients flow to the policy.

    Raises:
        UserError: If there is no reference model.
    """
    start = int((~batch.completion_mask.any(0)).cumprod(0).sum())  # completions begin at the same column
    input_ids, mask = batch.input_ids[:, start:], batch.completion_mask[:, start:]
    with torch.no_grad(), reference.active(policy) as model:
        reference_logits = _logits(model, input_ids, mask)
    targets = mask & F.pad(mask[:, :-1], (1, 0))
    divergence = token_kl(_logits(policy, input_ids, mask), reference_logits, targets)
    means = divergence.sum(-1) / targets.sum(-1).clamp(min=1)
    candidates = batch.candidate_mask
    return means.new_zeros(candidates.shape).masked_scatter(candidates, means).sum(-1) / candidates.sum(-1)


def _logits(model: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=input_ids, attention_mask=mask.long(), use_cache=False).logits
    return logits
