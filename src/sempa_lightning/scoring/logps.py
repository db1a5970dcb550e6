"""Log-probabilities of completions, whatever the layout."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import evaluating
from sempa_lightning.scoring.packed import packed_logps
from sempa_lightning.scoring.padded import pad, padded_logps
from sempa_lightning.types import PaddedSequences, PreferenceBatch


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
    """Score two anchors of a batch in the plain layout and see that the batch's own layout gives the same.

    Layouts rest on what a model makes of masks, positions and its own head; a model of another kind shows here,
    before it is trained.

    Raises:
        UserError: If the model cannot be scored in this layout, or scores something else.
    """
    device, dtype = batch.candidate_mask.device, next(policy.parameters()).dtype
    remedy = "set scoring=padded"
    padded = pad(batch.rows[:2], pad_token_id=0).to(device)
    try:
        with evaluating(policy), torch.autocast(device.type, enabled=False):
            found, expected = completion_logps(policy, batch), completion_logps(policy, padded)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the model cannot score {_name(batch)} ({error}): {remedy}") from error
    found = found[: len(expected), : expected.shape[1]]
    # In half precision, rounding alone moves a sum of logits by per cents.
    atol, rtol = (1e-3, 1e-4) if dtype == torch.float32 else (0.5, 0.02)
    if not torch.allclose(found, expected, rtol=rtol, atol=atol, equal_nan=True):  # training names rows that are NaN
        off = (found - expected).abs().max().item()
        raise UserError(f"in {_name(batch)} the model's log-probabilities are off by up to {off:.2g} nats: {remedy}")


def _name(batch: PreferenceBatch) -> str:
    return type(batch.sequences).__name__
