"""Log-probabilities of completions, whatever the layout."""

import torch
from jaxtyping import Float
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
    sequences, mask = batch.sequences, batch.candidate_mask
    if isinstance(sequences, PaddedSequences):
        summed = padded_logps(policy, sequences)
        return summed.new_zeros(mask.shape).masked_scatter(mask, summed)
    return packed_logps(policy, sequences, mask.numel()).view(mask.shape)


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
