"""Supervised fine-tuning on paraphrases: the control that has no preference."""

from collections.abc import Iterator

from torch import nn

from sempa_lightning.check import check_weight
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.training.objectives.batches import preference_batches
from sempa_lightning.types import PreferenceBatch, StepBatch, Terms


class Sft:
    """Negative log-likelihood of the chosen candidates given the paraphrase prompt.

    For each anchor the mean over all tokens of its chosen candidates, end tokens included, in nats; so an anchor counts
    the same whatever its length. Rejected candidates add nothing: `data/negatives=none` leaves them out of the forward
    pass. Only the KL term asks the reference.

    Args:
        kl_weight: Weight of KL(policy ‖ reference) per token on the candidates without their prompt
            (`unprompted_kl`); at 0 it is neither computed nor logged.

    Raises:
        UserError: If the weight is below 0.
    """

    def __init__(self, kl_weight: float) -> None:
        check_weight("objective.kl_weight", kl_weight)
        self._kl_weight = kl_weight

    def __call__(self, policy: nn.Module, reference: Reference, step: StepBatch) -> Iterator[Terms]:
        """Score the candidates under the policy; one loss for each anchor."""
        return (self._terms(policy, reference, batch) for batch in preference_batches(self, step))

    def _terms(self, policy: nn.Module, reference: Reference, batch: PreferenceBatch) -> Terms:
        logps, chosen = completion_logps(policy, batch), batch.chosen_mask
        losses = nll = -logps.masked_fill(~chosen, 0.0).sum(-1) / (batch.completion_lengths * chosen).sum(-1)
        metrics = {"nll": nll.detach(), "logps/chosen": logps[:, 0].detach()}
        if self._kl_weight:
            kl = unprompted_kl(policy, reference, batch)
            losses = nll + self._kl_weight * kl
            metrics["kl"] = kl.detach()
        metrics["loss"] = losses.detach()
        return Terms(losses, {name: values.sum() for name, values in metrics.items()})
