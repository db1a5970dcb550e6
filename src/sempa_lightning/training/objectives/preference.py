"""Paraphrase preferences against a frozen reference: SemPA."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sempa_lightning.check import check, check_weight
from sempa_lightning.errors import UserError
from sempa_lightning.losses import Law, PreferenceLoss
from sempa_lightning.losses.divergences import Divergence, ReverseKl
from sempa_lightning.metrics.preference import first_beats_rest, rejected_mean
from sempa_lightning.scoring.logps import tail_weighted, token_logps
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.training.objectives.batches import preference_batches
from sempa_lightning.training.objectives.together import together
from sempa_lightning.types import CandidateScores, PreferenceBatch, StepBatch, Terms

_REVERSE_KL = ReverseKl()


class Preference:
    """A preference loss over the scores of candidates, and optionally two terms that keep the language model.

    Args:
        loss: Maps scores to losses.
        nll_weight: Weight of the first chosen candidate's negative log-likelihood per token. It keeps the chosen
            completion from losing probability together with the rejected ones; SemPA uses 0.
        kl_weight: Weight of KL(policy ‖ reference) per token on the candidates without their prompt
            (`unprompted_kl`). It keeps the policy from drifting on plain text; SemPA uses 0, and then it is neither
            computed nor logged.
        divergence: What takes the place of the log-ratios in the loss; metrics are always of the log-ratios.
        tail_weight: What tokens beyond the length of the anchor's shortest completion count in a log-ratio
            (`tail_weighted`), 0 to 1. Below 1 the reference is scored anew at each step, for its cache holds sums.

    Raises:
        UserError: If the loss has no use for one of these, or a weight is out of its range. From a call, if a row has
            no rejected candidate, or is plain text.
    """

    def __init__(
        self,
        loss: PreferenceLoss,
        nll_weight: float,
        kl_weight: float,
        divergence: Divergence = _REVERSE_KL,
        tail_weight: float = 1.0,
    ) -> None:
        check_weight("objective.nll_weight", nll_weight)
        check_weight("objective.kl_weight", kl_weight)
        check("objective.tail_weight", tail_weight, lambda weight: 0 <= weight <= 1, "from 0 to 1")
        name, reference_free = type(loss).__name__, Law.REFERENCE_FREE in loss.laws
        if not isinstance(divergence, ReverseKl) and (reference_free or Law.SHIFT_FREE not in loss.laws):
            raise UserError(
                f"{name} does not look at differences of log-ratios alone, which a divergence needs: set"
                " divergence=reverse_kl or another loss"
            )
        if tail_weight != 1 and reference_free:
            raise UserError(f"{name} takes no log-ratios, which objective.tail_weight is for: set it to 1.0")
        self._loss = loss
        self._reference_free = reference_free
        self._nll_weight = nll_weight
        self._kl_weight = kl_weight
        self._divergence = divergence
        self._tail_weight = tail_weight

    def __call__(self, policy: nn.Module, reference: Reference, step: StepBatch) -> Iterator[Terms]:
        """Score all candidates under policy and reference; one loss for each anchor.

        A loss that depends on the other rows of its step sees the same whole step in every micro-batch and process.
        """
        batches = preference_batches(self, step)
        alone = Law.STEP_FREE in self._loss.laws
        center = torch.tensor(torch.nan) if alone else self._center(policy, reference, step, batches)
        return (self._terms(policy, reference, batch, center) for batch in batches)

    @torch.no_grad()
    def _center(
        self, policy: nn.Module, reference: Reference, step: StepBatch, batches: list[PreferenceBatch]
    ) -> Float[Tensor, ""]:
        """`CandidateScores.center`, by a pass over the whole step before the one with gradients."""

        def total() -> Tensor:
            found = torch.zeros((), device=batches[0].candidate_mask.device)
            for batch, weight in zip(batches, step.weights, strict=True):
                log_ratios = self._scores(policy, reference, batch).log_ratios
                halves = (log_ratios[:, 0] + rejected_mean(log_ratios, batch.rejected_mask)) / 2
                found = found + halves.sum() * weight
            return found

        if not step.is_shared:
            return total() / step.size
        torch.distributed.all_reduce(summed := together(policy, total))
        return summed / step.size

    def _scores(self, policy: nn.Module, reference: Reference, batch: PreferenceBatch) -> CandidateScores:
        _check_rejected(batch)
        by_token = token_logps(policy, batch)
        logps = by_token.sum(-1)
        if self._reference_free:
            log_ratios = torch.full_like(logps, torch.nan)
        elif self._tail_weight == 1:
            log_ratios = logps - reference.logps(policy, batch)
        else:
            with torch.no_grad(), reference.active(policy) as model:
                reference_by_token = token_logps(model, batch)
            log_ratios = tail_weighted(by_token - reference_by_token, batch.completion_lengths, self._tail_weight)
        unknown = torch.tensor(torch.nan)
        return CandidateScores(
            logps, log_ratios, batch.completion_lengths, batch.candidate_mask, batch.num_chosen, unknown
        )

    def _terms(
        self, policy: nn.Module, reference: Reference, batch: PreferenceBatch, center: Float[Tensor, ""]
    ) -> Terms:
        scores = self._scores(policy, reference, batch)
        divergences = self._divergence(scores.log_ratios)
        preference = self._loss(scores._replace(log_ratios=divergences, center=center))
        mean_logps = scores.per_token(scores.policy_logps)
        nll = -mean_logps[:, 0]
        losses = preference + self._nll_weight * nll

        logps, rejected_mask = scores.policy_logps.detach(), batch.rejected_mask
        rewards = self._loss.beta * (mean_logps if self._reference_free else scores.log_ratios).detach()
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
