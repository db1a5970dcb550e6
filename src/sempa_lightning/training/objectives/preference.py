"""Paraphrase preferences against a frozen reference: SemPA."""

from torch import nn

from sempa_lightning.losses import PreferenceLoss
from sempa_lightning.metrics.preference import first_beats_rest, rejected_mean
from sempa_lightning.scoring.padded import completion_lengths, completion_logps
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.types import PreferenceBatch, Terms


class Preference:
    """A preference loss over log-ratios, and optionally the likelihood of the first chosen candidate.

    Args:
        loss: Maps log-ratios to losses.
        nll_weight: Weight of the first chosen candidate's negative log-likelihood per token. It keeps the chosen
            completion from losing probability together with the rejected ones; SemPA uses 0.
    """

    def __init__(self, loss: PreferenceLoss, nll_weight: float) -> None:
        self._loss = loss
        self._nll_weight = nll_weight

    def __call__(self, policy: nn.Module, reference: Reference, batch: PreferenceBatch) -> Terms:
        """Score all candidates under policy and reference; one loss for each anchor."""
        logps = completion_logps(policy, batch)
        log_ratios = logps - reference.logps(policy, batch)
        preference = self._loss(log_ratios, batch.candidate_mask, batch.num_chosen)
        nll = -logps[:, 0] / completion_lengths(batch)[:, 0]
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
        return Terms(losses, {name: values.sum() for name, values in metrics.items()})
