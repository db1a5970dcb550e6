"""Smaller micro-batches hold the same rows, and equally many on all processes."""

import pytest
import torch

from sempa_lightning.scoring.packed import Packed
from sempa_lightning.training.micro_batches import cut
from sempa_lightning.types import StepBatch, TextBatch, TokenizedRow

ROWS = [TokenizedRow(str(place), [1] * (9 - place), [[2, 3], [4]], 1) for place in range(5)]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_every_row_exactly_once(parts):
    layout = Packed(10)
    step = StepBatch([layout(ROWS[:3], 0), layout(ROWS[3:], 0), layout(ROWS[:1], 0)], size=5, weights=[1.0, 1.0, 0.0])
    smaller = cut(step, parts, layout)
    pairs = list(zip(smaller.micro_batches, smaller.weights, strict=True))
    assert len(pairs) == 3 * parts
    assert sorted(row.id for batch, weight in pairs if weight for row in batch.rows) == ["0", "1", "2", "3", "4"]
    assert smaller.size == 5
    assert smaller.is_shared == step.is_shared


def test_blocks_of_text():
    ids = torch.arange(15).view(3, 5)
    step = StepBatch([TextBatch(["a", "b", "c"], ids, ids > 0)], size=12, weights=[1.0])
    first, second = cut(step, 2, Packed(1)).micro_batches
    assert (first.row_ids, second.row_ids) == (["a", "c"], ["b"])
    assert first.input_ids.tolist() == ids[[0, 2]].tolist()
    assert second.target_mask.tolist() == (ids > 0)[[1]].tolist()
