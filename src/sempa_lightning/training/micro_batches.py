"""Smaller micro-batches for a step that does not fit into memory."""

from collections.abc import Iterator, Sequence

from sempa_lightning.scoring.layout import Layout
from sempa_lightning.types import PreferenceBatch, StepBatch, TextBatch

# Stands where no token is, so any will do.
_PAD_TOKEN_ID = 0


def cut(step: StepBatch, parts: int, layout: Layout) -> StepBatch:
    """Deal the rows of each micro-batch to so many smaller ones, which sum to the same loss.

    Rows stand by length in a micro-batch, so that its parts have about the same number of tokens. A part that no row is
    left for keeps the others company with the last row, as other processes may have more rows.

    Args:
        step: The step.
        parts: How many micro-batches each becomes.
        layout: How candidates are laid out in a forward pass.
    """
    if parts == 1:
        return step
    batches: Sequence[PreferenceBatch | TextBatch] = step.micro_batches
    micro_batches = [part for batch in batches for part in _dealt(batch, parts, layout)]
    counted = zip(batches, step.weights, strict=True)
    weights = [weight * (place < len(batch.row_ids)) for batch, weight in counted for place in range(parts)]
    return step._replace(micro_batches=micro_batches, weights=weights)  # type: ignore[arg-type]


def _dealt(batch: PreferenceBatch | TextBatch, parts: int, layout: Layout) -> Iterator[PreferenceBatch | TextBatch]:
    count = len(batch.row_ids)
    for place in range(parts):
        chosen = range(count)[min(place, count - 1) :: parts]
        if isinstance(batch, PreferenceBatch):
            rows = [batch.rows[index] for index in chosen]
            yield layout(rows, _PAD_TOKEN_ID).to(batch.candidate_mask.device)
        else:
            row_ids = [batch.row_ids[index] for index in chosen]
            yield TextBatch(row_ids, batch.input_ids[list(chosen)], batch.target_mask[list(chosen)])
