"""Preference accuracy on held-out lists."""

from collections import Counter
from typing import Literal

import torch

from sempa_lightning.data.load import CleanRows
from sempa_lightning.data.rows import RowSource
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.preference import first_beats_rest
from sempa_lightning.models.sharding import device_of
from sempa_lightning.scoring.logps import check_layout, completion_logps

_BATCH_SIZE = 16


class PreferenceAccuracy:
    """How often the chosen candidate is the most probable one of its list.

    Probabilities are the policy's own, per token (length-normalised), so that the number is defined before training,
    too.

    Args:
        rows: Held-out rows.
        max_length: Longest prompt + completion, in tokens.
        unfit: What to do with rows that cannot be scored (see `RowTokenizer`).
        max_rows: Rows used at most, all when null.
    """

    def __init__(
        self, rows: RowSource, max_length: int, unfit: Literal["error", "drop"], max_rows: int | None = None
    ) -> None:
        self._rows = rows
        self._max_length = max_length
        self._unfit = unfit
        self._max_rows = max_rows

    @property
    def missing(self) -> str | None:
        """None: rows that are asked for must be there."""
        return None

    @torch.no_grad()
    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Score all candidates; an item is an anchor. Notes count the rows that are left out, by reason."""
        rows = CleanRows(self._rows, group=False, max_rows=self._max_rows)
        tokenize = RowTokenizer(subject.tokenizer, subject.prompt, self._max_length, self._unfit)
        unfit: Counter[str] = Counter()
        tokenized = sorted(tokenize(rows, unfit), key=lambda row: len(row.prompt_ids))
        device = device_of(subject.model)
        pad_token_id = subject.tokenizer.pad_token_id
        check_layout(subject.model, subject.layout(tokenized[:2], pad_token_id).to(device))
        hits, margins = [], []
        for at in progress(range(0, len(tokenized), _BATCH_SIZE)):
            batch = subject.layout(tokenized[at : at + _BATCH_SIZE], pad_token_id).to(device)
            mean_logps = completion_logps(subject.model, batch) / batch.completion_lengths.clamp(min=1)
            best_rejected = mean_logps.masked_fill(~batch.rejected_mask, -torch.inf).amax(-1)
            hits.append(first_beats_rest(mean_logps, batch.rejected_mask).float().cpu())
            margins.append((mean_logps[:, 0] - best_rejected).cpu())
        dropped = {**rows.counts.dropped, **unfit}
        notes = {"rows": len(tokenized), "dropped": sum(dropped.values()), "reasons": dropped}
        return Measurement({"hit": torch.cat(hits), "margin": torch.cat(margins)}, notes)

    def metrics(self, items: Items) -> dict[str, float]:
        """Accuracy, 0 to 1, and the mean margin over the best rejected candidate, in nats per token."""
        return {"accuracy": float(items["hit"].mean()), "margin": float(items["margin"].mean())}
