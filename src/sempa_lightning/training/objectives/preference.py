"""Paraphrase preferences against a frozen reference: SemPA."""

from collections.abc import Iterator

from torch import nn

from sempa_lightning.errors import UserError
from sempa_lightning.losses import PreferenceLoss
from sempa_lightning.metrics.preference import first_beats_rest, rejected_mean
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.types import PreferenceBatch, StepBatch, Terms


class Preference:
    """A preference loss over log-ratios, and optionally two terms that keep the language model.

    Args:
        loss: Maps log-ratios to losses.
        nll_weight: Weight of the first chosen candidate's negative log-likelihood per token. It keeps the chosen
            completion from losing probability together with the rejected ones; SemPA uses 0.
        kl_weight: Weight of KL(policy ‖ reference) per token on the candidates without their prompt
            (`unprompted_kl`). It keeps the policy from drifting on plain text; SemPA uses 0, and then it is neither
            computed nor logged.

    Raises:
        UserError: From a call, if a row has no rejected candidate.
    """

    def __init__(self, loss: PreferenceLoss, nll_weight: float, kl_weight: float) -> None:
        self._loss = loss
        self._nll_weight = nll_weight
        self._kl_weight = kl_weight

    def __call__(self, policy: nn.Module, reference: Reference, step: StepBatch) -> Iterator[Terms]:
        """Score all candidates under policy and reference; one loss for each anchor."""
        batches: list[PreferenceBatch] = step.micro_batches  # type: ignore[assignment]
        return (self._terms(policy, reference, batch) for batch in batches)

    def _terms(self, policy: nn.Module, reference: Reference, batch: PreferenceBatch) -> Terms:
        _check_rejected(batch)
        logps = completion_logps(policy, batch)
        log_ratios = logps - reference.logps(policy, batch)
        preference = self._loss(log_ratios, batch.candidate_mask, batch.num_chosen)
        nll = -logps[:, 0] / batch.completion_lengths[:, 0]
        losses = preference + self._nll_weight * nll

        logps, rewards = logps.detach(), self._loss.beta * log_ratios.detach()
        rejected_mask = batch.rejected_mask
        rejected_rewards = rejected_mean(rewards, rejected_mask)
        metrics = {
            "loss": losses.detach(),
            "nll": nll.detach(),
            "rewards/chosen": rewards[:, 0],
            "rewards/rejected": rejected_rewards,
            "rewards/margins": rewards[:, 0] - rejected_rewards,
            "rewards/accuracies": first_beats_rest(rewards, rejected_mask).float(),
            "logps/chosen": logps[:, 0],
            "logps/rejected": rejected_mean(logps, rejected_mask),
        }
        if self._kl_weight:
            kl = unprompted_kl(policy, reference, batch)
            losses = losses + self._kl_weight * kl
            metrics |= {"loss": losses.detach(), "kl": kl.detach()}
        return Terms(losses, {name: values.sum() for name, values in metrics.items()})


def _check_rejected(batch: PreferenceBatch) -> None:
    for row in batch.rows:
        if len(row.completion_ids) == row.num_chosen:
            raise UserError(
                f"row {row.id} has no rejected candidate in its step, and a preference needs one: set"
                " data.negatives.given=true, or data.negatives.in_batch=1 and a larger data.batch_size"
            )
