"""The plain layout: one padded sequence, prompt and completion, for each candidate."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sempa_lightning.types import PreferenceBatch, TokenizedRow


def pad(rows: Sequence[TokenizedRow], pad_token_id: int) -> PreferenceBatch:
    """Lay out rows, prompts padded on the left and completions on the right."""
    pairs = [(row.prompt_ids, completion) for row in rows for completion in row.completion_ids]
    before = max(len(prompt) for prompt, _ in pairs)
    after = max(len(completion) for _, completion in pairs)
    input_ids = torch.full((len(pairs), before + after), pad_token_id)
    attention_mask = torch.zeros_like(input_ids, dtype=torch.bool)
    completion_mask = torch.zeros_like(attention_mask)
    for sequence, (prompt, completion) in enumerate(pairs):
        start, stop = before - len(prompt), before + len(completion)
        input_ids[sequence, start:stop] = torch.tensor([*prompt, *completion])
        attention_mask[sequence, start:stop] = True
        completion_mask[sequence, before:stop] = True
    counts = torch.tensor([len(row.completion_ids) for row in rows])
    return PreferenceBatch(
        row_ids=[row.id for row in rows],
        input_ids=input_ids,
        attention_mask=attention_mask,
        completion_mask=completion_mask,
        candidate_mask=torch.arange(int(counts.max())) < counts[:, None],
        num_chosen=torch.tensor([row.num_chosen for row in rows]),
    )


def completion_logps(policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
    """Log-probability of each completion and its end token given the prompt: summed over tokens, in nats, float32.

    Absent candidates are 0. The language-model head runs on the columns of completions only.
    """
    kept = batch.completion_mask.any(0).sum() + 1  # the last prompt column predicts the first completion token
    logits: Tensor = policy(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask.long(),
        position_ids=(batch.attention_mask.cumsum(-1) - 1).clamp(min=0),
        logits_to_keep=int(kept),
        use_cache=False,
    ).logits[:, :-1]
    targets = batch.input_ids[:, -logits.shape[1] :]
    logps = logits.float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    summed = (logps * batch.completion_mask[:, -logits.shape[1] :]).sum(-1)
    return summed.new_zeros(batch.candidate_mask.shape).masked_scatter(batch.candidate_mask, summed)


def completion_lengths(batch: PreferenceBatch) -> Int[Tensor, "anchors candidates"]:
    """Scored tokens of each candidate, end token included; 0 where the candidate is absent."""
    lengths = batch.completion_mask.sum(-1)
    return lengths.new_zeros(batch.candidate_mask.shape).masked_scatter(batch.candidate_mask, lengths)
