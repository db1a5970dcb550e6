"""The plain layout: one padded sequence, prompt and completion, for each candidate."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sempa_lightning.models.causal_lm import causal_lm
from sempa_lightning.models.forward import accepted
from sempa_lightning.types import PaddedSequences, PreferenceBatch, RightPaddedSequences, TokenizedRow, padded


@dataclass(frozen=True)
class Padded:
    """One sequence for each candidate, which reads the prompt once for each candidate.

    Prompts are padded on the left, so that completions begin at the same column and the language-model head runs on
    their columns only. The model must leave masked tokens out.
    """

    def num_tokens(self, rows: Sequence[TokenizedRow]) -> int:
        """Tokens of all sequences, padding included."""
        completions = [completion for row in rows for completion in row.completion_ids]
        return len(completions) * (max(len(row.prompt_ids) for row in rows) + max(map(len, completions)))

    def __call__(self, rows: Sequence[TokenizedRow], pad_token_id: int) -> PreferenceBatch:
        """Pad prompts on the left and completions on the right."""
        return pad(rows, pad_token_id)


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
    return PreferenceBatch.of(rows, PaddedSequences(input_ids, attention_mask, completion_mask))


def padded_logps(policy: nn.Module, sequences: PaddedSequences) -> Float[Tensor, "candidates positions"]:
    """Log-probability of each token of each live candidate, 0 behind its last, by the logits of the model itself.

    The language-model head runs on the columns of completions only.
    """
    kept = sequences.completion_mask.any(0).sum() + 1  # the last prompt column predicts the first completion token
    inputs = accepted(
        causal_lm(policy),
        input_ids=sequences.input_ids,
        attention_mask=sequences.attention_mask.long(),
        position_ids=(sequences.attention_mask.cumsum(-1) - 1).clamp(min=0),
        logits_to_keep=int(kept),
        use_cache=False,
    )
    logits: Tensor = policy(**inputs).logits[:, -int(kept) : -1]
    targets = sequences.input_ids[:, -logits.shape[1] :]
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logps = wide.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return logps * sequences.completion_mask[:, -logits.shape[1] :]


@dataclass(frozen=True)
class PaddedRight:
    """One sequence for each candidate, padded behind it: needs no mask, and so fits every causal model."""

    def num_tokens(self, rows: Sequence[TokenizedRow]) -> int:
        """Tokens of all sequences, padding included."""
        lengths = [len(row.prompt_ids) + len(completion) for row in rows for completion in row.completion_ids]
        return len(lengths) * max(lengths)

    def __call__(self, rows: Sequence[TokenizedRow], pad_token_id: int) -> PreferenceBatch:
        """Pad sequences on the right."""
        pairs = [(row.prompt_ids, completion) for row in rows for completion in row.completion_ids]
        input_ids = padded([prompt + completion for prompt, completion in pairs], pad_token_id)
        lengths = torch.tensor([len(prompt) + len(completion) for prompt, completion in pairs])
        mask = torch.arange(input_ids.shape[1]) < lengths[:, None]
        starts = torch.tensor([len(prompt) for prompt, _ in pairs])
        return PreferenceBatch.of(rows, RightPaddedSequences(input_ids, mask, starts))


def right_padded_logps(
    policy: nn.Module, sequences: RightPaddedSequences, positions: int
) -> Float[Tensor, "candidates positions"]:
    """Log-probability of each token of each live candidate, 0 behind its last, by the logits of the model itself."""
    logits: Tensor = policy(**accepted(causal_lm(policy), input_ids=sequences.input_ids, use_cache=False)).logits
    place = sequences.starts[:, None] + torch.arange(positions, device=logits.device)
    place = place.clamp(max=logits.shape[1] - 1)
    live = sequences.attention_mask.gather(1, place) & (place.diff(prepend=place[:, :1] - 1) > 0)
    predicted = logits.gather(1, (place - 1)[..., None].expand(-1, -1, logits.shape[-1]))
    targets = sequences.input_ids.gather(1, place)
    wide = predicted.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(-1).gather(-1, targets[..., None])[..., 0] * live
