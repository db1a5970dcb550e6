"""Is generation kept? Held-out text under the policy, and how far it moved from the reference."""

from collections.abc import Iterable
from itertools import islice

import torch

from sempa_lightning.data.missing import why_missing
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.language import token_hits, token_kl, token_nll
from sempa_lightning.models.causal_lm import max_positions
from sempa_lightning.models.sharding import device_of
from sempa_lightning.models.user_text import UserText


class HeldOutText:
    """Perplexity, next-token accuracy and token KL from the reference on plain texts.

    Args:
        texts: Held-out texts; each is cut to the model's context.
        max_texts: Texts used at most, all when null.
        skip_texts: Texts passed over before those.
    """

    def __init__(self, texts: Iterable[str], max_texts: int | None = None, skip_texts: int = 0) -> None:
        self._texts = texts
        self._used = slice(skip_texts, None if max_texts is None else skip_texts + max_texts)

    @property
    def missing(self) -> str | None:
        """Why the texts cannot be read, or None."""
        return why_missing(self._texts)

    @torch.no_grad()
    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Score every token after the first of each text; an item is a text, and texts of one token are left out.

        Raises:
            UserError: If no text has a second token.
        """
        device = device_of(subject.model)
        limit = max_positions(subject.model)
        user_text = UserText(subject.tokenizer)
        used = islice(self._texts, self._used.start, self._used.stop)
        texts = [user_text.encode([user_text.shield(text)])["input_ids"][0] for text in used]
        scored = [ids for ids in texts if len(ids) > 1]
        if not scored:
            raise UserError("none of the texts has a second token that could be predicted from the first")
        rows: list[list[float]] = []
        for ids in progress(scored):
            input_ids = torch.tensor([ids[:limit]], device=device)
            mask = torch.ones_like(input_ids, dtype=torch.bool)
            mask[:, 0] = False
            logits = subject.model(input_ids=input_ids, use_cache=False).logits
            with subject.reference.active(subject.model) as reference:
                reference_logits = reference(input_ids=input_ids, use_cache=False).logits
            sums = (
                token_nll(logits, input_ids, mask),
                token_hits(logits, input_ids, mask),
                token_kl(logits, reference_logits, mask),
                mask,
            )
            rows.append([float(values.sum()) for values in sums])
        columns = torch.tensor(rows, dtype=torch.float64).T
        notes = {
            "texts": len(scored),
            "left_out": len(texts) - len(scored),
            "truncated": sum(len(ids) > limit for ids in scored),
        }
        return Measurement(dict(zip(("nll", "hits", "kl", "tokens"), columns, strict=True)), notes)

    def metrics(self, items: Items) -> dict[str, float]:
        """Perplexity (1 is perfect), next-token accuracy (0 to 1), KL(policy ‖ reference) in nats per token."""
        tokens = items["tokens"].sum()
        return {
            "perplexity": float((items["nll"].sum() / tokens).exp()),
            "next_token_accuracy": float(items["hits"].sum() / tokens),
            "kl": float(items["kl"].sum() / tokens),
        }
