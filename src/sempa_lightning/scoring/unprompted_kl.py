"""How far the policy has moved from the reference where no prompt asks for a paraphrase."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from sempa_lightning.metrics.language import token_kl
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.types import PreferenceBatch


def unprompted_kl(policy: nn.Module, reference: Reference, batch: PreferenceBatch) -> Float[Tensor, " anchors"]:
    """KL(policy ‖ reference) on the candidates of each anchor as one plain text, without the prompt, in nats.

    Of the next-token distributions, averaged over the tokens of the text: the candidates in a row, without end tokens.
    This holds the language model in place on plain text of several sentences, and leaves the policy free where
    preferences speak. Gradients flow to the policy.

    Raises:
        UserError: If there is no reference model.
    """
    texts = [torch.cat([ids[:-1] for ids in candidates]) for candidates in _completions(batch)]
    input_ids = pad_sequence(texts, batch_first=True)
    mask = pad_sequence([torch.ones_like(text, dtype=torch.bool) for text in texts], batch_first=True)
    with torch.no_grad(), reference.active(policy) as model:
        reference_logits = _logits(model, input_ids, mask)
    targets = F.pad(mask[:, 1:], (1, 0))  # the first token is predicted from nothing
    divergence = token_kl(_logits(policy, input_ids, mask), reference_logits, targets)
    return divergence.sum(-1) / targets.sum(-1).clamp(min=1)


def _completions(batch: PreferenceBatch) -> list[tuple[Tensor, ...]]:
    """Token ids of each anchor's candidates, end tokens included."""
    lengths = batch.completion_mask.sum(-1).tolist()
    ids = torch.split(batch.input_ids[batch.completion_mask], lengths)
    at = [0, *batch.candidate_mask.sum(-1).cumsum(0).tolist()]
    return [ids[start:stop] for start, stop in itertools.pairwise(at)]


def _logits(model: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=input_ids, attention_mask=mask.long(), use_cache=False).logits
    return logits
