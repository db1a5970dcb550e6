"""Log-probabilities of completions, whatever the layout."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import causal_lm, evaluating, max_positions
from sempa_lightning.models.forward import FORWARD_ERRORS, accepted, brief, leak_tolerance
from sempa_lightning.scoring.packed import leak, packed_logps
from sempa_lightning.scoring.padded import padded_logps, right_padded_logps
from sempa_lightning.types import PackedSequences, PaddedSequences, PreferenceBatch, RightPaddedSequences


def completion_logps(policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates"]:
    """Log-probability of each completion and its end token given the prompt: summed over tokens, in nats, float32.

    Absent candidates are 0.
    """
    return token_logps(policy, batch).sum(-1)


def token_logps(policy: nn.Module, batch: PreferenceBatch) -> Float[Tensor, "anchors candidates positions"]:
    """Log-probability of each token of each completion, end token included, in nats, float32; 0 where there is none."""
    sequences, mask = batch.sequences, batch.candidate_mask
    if isinstance(sequences, PaddedSequences):
        logps = padded_logps(policy, sequences)
        shape = (*mask.shape, logps.shape[-1])
        return logps.new_zeros(shape).masked_scatter(mask[..., None], logps)
    shape = (*mask.shape, int(batch.completion_lengths.max()))
    if isinstance(sequences, RightPaddedSequences):
        logps = right_padded_logps(policy, sequences, shape[-1])
        return logps.new_zeros(shape).masked_scatter(mask[..., None], logps)
    return packed_logps(policy, sequences, math.prod(shape)).view(shape)


def tail_weighted(
    logps: Float[Tensor, "anchors candidates positions"],
    completion_lengths: Int[Tensor, "anchors candidates"],
    tail_weight: float,
) -> Float[Tensor, "anchors candidates"]:
    """Sum over tokens, in which those beyond the length of the anchor's shortest completion count `tail_weight`.

    With two candidates it is the length-desensitised score of LD-DPO (Liu et al. 2024, arXiv 2409.06411), whose alpha
    is the weight: at 1 a plain sum, at 0 one over the length that both have. With more candidates that is the length
    of the shortest of all, so that each still has one score.
    """
    shortest = completion_lengths.where(completion_lengths > 0, logps.shape[-1]).amin(-1)
    position = torch.arange(logps.shape[-1], device=logps.device)
    beyond = position >= shortest[:, None, None]
    return torch.where(beyond, tail_weight * logps, logps).sum(-1)


@torch.no_grad()
def check_layout(policy: nn.Module, batch: PreferenceBatch) -> None:
    """Compare candidates of a batch with the same candidates as sequences of their own, without padding or masks.

    Layouts rest on what a model makes of masks, positions and its own head; a model of another kind shows here,
    before it is trained.

    Raises:
        UserError: If the model cannot be scored in this layout, or scores something else.
    """
    dtype = next(policy.parameters()).dtype
    places = [(row, candidate) for row in (0, -1) for candidate in (0, -1)]  # as many passes in every process
    _check_length(policy, batch)
    with evaluating(policy), torch.autocast(batch.candidate_mask.device.type, enabled=False):
        expected = torch.stack([_plain_logp(policy, batch, *place) for place in places])
        try:
            logps = completion_logps(policy, batch)
            leaked = leak(policy, batch.sequences) if isinstance(batch.sequences, PackedSequences) else 0.0
        except torch.OutOfMemoryError:
            raise
        except FORWARD_ERRORS as error:
            raise UserError(
                f"scoring: {type(causal_lm(policy)).__name__} cannot score {_name(batch)} ({brief(error)})"
                f"{_remedy(batch)}"
            ) from error
    columns = batch.candidate_mask.sum(-1) - 1
    found = torch.stack([logps[row, columns[row] if candidate else 0] for row, candidate in places])
    # In half precision, rounding alone moves a sum of logits by per cents.
    atol, rtol = (1e-3, 1e-4) if dtype == torch.float32 else (0.5, 0.02)
    if not torch.allclose(found, expected, rtol=rtol, atol=atol, equal_nan=True):  # training names rows that are NaN
        off = (found - expected).abs().max().item()
        raise UserError(
            f"scoring: in {_name(batch)} of {type(causal_lm(policy)).__name__} log-probabilities are off by up to"
            f" {off:.2g} nats{_remedy(batch)}"
        )
    if leaked > leak_tolerance(policy):
        raise UserError(
            f"scoring: in {_name(batch)} of {type(causal_lm(policy)).__name__} hidden states change with texts they"
            f" may not see, by {leaked:.2g}{_remedy(batch)}"
        )


def _plain_logp(policy: nn.Module, batch: PreferenceBatch, row: int, candidate: int) -> Float[Tensor, ""]:
    """Log-probability of a candidate by the model's own logits on prompt and completion alone."""
    prompt, completion = batch.rows[row].prompt_ids, batch.rows[row].completion_ids[candidate]
    ids = torch.tensor([prompt + completion], device=batch.candidate_mask.device)
    try:
        logits = policy(**accepted(causal_lm(policy), input_ids=ids, use_cache=False)).logits[0, len(prompt) - 1 : -1]
    except torch.OutOfMemoryError:
        raise
    except FORWARD_ERRORS as error:
        name = type(causal_lm(policy)).__name__
        raise UserError(
            f"model.path: {name} cannot read a sequence of {ids.shape[1]} tokens: {brief(error)}"
        ) from error
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logps: Tensor = wide.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])
    return logps.sum()


def _check_length(policy: nn.Module, batch: PreferenceBatch) -> None:
    """Refuse rows that are longer than the model's context."""
    limit = max_positions(policy)
    lengths = {row.id: len(row.prompt_ids) + max(map(len, row.completion_ids)) for row in batch.rows}
    longest = max(lengths, key=lambda row: lengths[row])
    if lengths[longest] > limit:
        raise UserError(
            f"data.max_length: row {longest} has {lengths[longest]} tokens, but the model has {limit} positions: set"
            f" data.max_length={limit}"
        )


def _name(batch: PreferenceBatch) -> str:
    return type(batch.sequences).__name__


def _remedy(batch: PreferenceBatch) -> str:
    """What to do about a layout that does not fit, other than choosing the one that is chosen already."""
    if isinstance(batch.sequences, RightPaddedSequences):
        return ", so that it cannot be trained on preferences"
    return ": set scoring=padded_right" if isinstance(batch.sequences, PaddedSequences) else ": set scoring=padded"
