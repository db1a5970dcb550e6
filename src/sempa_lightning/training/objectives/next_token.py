"""Next-token prediction: pre-training, and supervised fine-tuning as a control."""

from collections.abc import Iterator

from torch import nn

from sempa_lightning.metrics.language import token_hits, token_nll
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.training.objectives.batches import text_batches
from sempa_lightning.types import StepBatch, Terms, TextBatch


class NextToken:
    """Negative log-likelihood of the target tokens, summed for each sequence, in nats."""

    def __call__(self, policy: nn.Module, reference: Reference, step: StepBatch) -> Iterator[Terms]:  # noqa: ARG002
        """Run one forward pass for each micro-batch; a step's mean is per target token."""
        return (_terms(policy, batch) for batch in text_batches(self, step))


def _terms(policy: nn.Module, batch: TextBatch) -> Terms:
    logits = policy(input_ids=batch.input_ids, use_cache=False).logits
    losses = token_nll(logits, batch.input_ids, batch.target_mask).sum(-1)
    hits = token_hits(logits.detach(), batch.input_ids, batch.target_mask)
    return Terms(losses, {"loss": losses.detach().sum(), "token_accuracy": hits.sum().float()})
