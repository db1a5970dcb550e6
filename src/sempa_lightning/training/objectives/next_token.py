"""Next-token prediction: pre-training, and supervised fine-tuning as a control."""

from torch import nn

from sempa_lightning.metrics.language import token_hits, token_nll
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.types import Terms, TextBatch


class NextToken:
    """Negative log-likelihood of the target tokens, summed for each sequence, in nats."""

    def __call__(self, policy: nn.Module, reference: Reference, batch: TextBatch) -> Terms:  # noqa: ARG002
        """Run one forward pass; a step's mean is per target token."""
        logits = policy(input_ids=batch.input_ids, use_cache=False).logits
        losses = token_nll(logits, batch.input_ids, batch.target_mask).sum(-1)
        hits = token_hits(logits.detach(), batch.input_ids, batch.target_mask)
        return Terms(losses, {"loss": losses.detach().sum(), "token_accuracy": hits.sum().float()})
