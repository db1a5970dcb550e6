"""How far the policy has moved from the reference where no prompt asks for a paraphrase."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sempa_lightning.models.causal_lm import decoder
from sempa_lightning.models.forward import accepted
from sempa_lightning.scoring.head import divergences, lm_head
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.types import PreferenceBatch, padded


def unprompted_kl(policy: nn.Module, reference: Reference, batch: PreferenceBatch) -> Float[Tensor, " anchors"]:
    """KL(policy ‖ reference) on the candidates of each anchor as one plain text, without the prompt, in nats.

    Of the next-token distributions, averaged over the tokens of the text: the row's own candidates one after the other,
    without end tokens. Candidates of other anchors are texts of theirs already.
    This holds the language model in place on plain text of several sentences, and leaves the policy free where
    preferences speak. Gradients flow to the policy.

    Raises:
        UserError: If there is no reference model.
    """
    device = batch.candidate_mask.device
    texts = [[token for completion in row.own_completion_ids for token in completion[:-1]] for row in batch.rows]
    input_ids = padded(texts, 0).to(device)
    lengths = torch.tensor([*map(len, texts)], device=device)
    mask = torch.arange(input_ids.shape[1], device=device) < lengths[:, None]
    with torch.no_grad(), reference.active(policy) as model:
        reference_states, reference_head = _states(model, input_ids, mask), lm_head(model)
    predicting = mask[:, 1:]  # the first token is predicted from nothing
    states = _states(policy, input_ids, mask)[predicting]
    kl = divergences(states, lm_head(policy), reference_states[predicting], reference_head)
    summed = kl.new_zeros(mask.shape)[:, 1:].masked_scatter(predicting, kl).sum(-1)
    return summed / predicting.sum(-1).clamp(min=1)


def _states(model: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
    """States that predict the second token and those after it."""
    backbone = decoder(model)
    inputs = accepted(backbone, input_ids=input_ids, attention_mask=mask.long(), use_cache=False)
    states: Tensor = backbone(**inputs).last_hidden_state
    return states[:, :-1]
