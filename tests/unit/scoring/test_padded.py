"""The plain layout by hand, and its sums in half precision."""

import torch

from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.padded import Padded, pad
from sempa_lightning.types import TokenizedRow

PAD = 0


def test_pad_by_hand():
    rows = [TokenizedRow("a", [1, 2], [[3], [4, 5]], 1), TokenizedRow("b", [6], [[7, 8, 9]], 1)]
    batch = pad(rows, PAD)
    assert batch.rows == rows
    assert batch.row_ids == ["a", "b"]
    assert batch.sequences.input_ids.tolist() == [[1, 2, 3, 0, 0], [1, 2, 4, 5, 0], [0, 6, 7, 8, 9]]
    assert batch.sequences.attention_mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]
    assert batch.sequences.completion_mask.int().tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.candidate_mask.tolist() == [[True, True], [True, False]]
    assert batch.num_chosen.tolist() == [1, 1]
    assert batch.completion_lengths.tolist() == [[1, 2], [3, 0]]
    assert Padded()(rows, PAD).sequences.input_ids.equal(batch.sequences.input_ids)


def test_pad_does_not_take_a_pad_token_in_the_text_for_padding():
    batch = pad([TokenizedRow("a", [PAD, 2], [[3, PAD]], 1), TokenizedRow("b", [4], [[PAD]], 1)], PAD)
    assert batch.sequences.attention_mask.int().tolist() == [[1, 1, 1, 1], [0, 1, 1, 0]]
    assert batch.sequences.live.equal(batch.sequences.attention_mask)


def test_tokens_of_a_row_are_those_of_its_sequences():
    row = TokenizedRow("a", [1, 2, 3], [[4], [4, 5], [4]], 1)
    assert Padded().num_tokens([row]) == pad([row], PAD).sequences.input_ids.numel() == 15


def test_half_precision_logits_are_summed_in_float32(tiny_llama, batch):
    """In bfloat16 a sum of about -30 would be rounded to multiples of 1/8."""
    model, sequences = tiny_llama.bfloat16(), batch.sequences
    with torch.no_grad():
        logps = completion_logps(model, batch)
        # Row by row, bfloat16 matrix products differ: compare with the same logits, summed in float64.
        positions = (sequences.attention_mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(
            input_ids=sequences.input_ids, attention_mask=sequences.attention_mask.long(), position_ids=positions
        ).logits.double()
    assert logps.dtype == torch.float32
    token_logps = logits[:, :-1].log_softmax(-1).gather(-1, sequences.input_ids[:, 1:, None])[..., 0]
    expected = (token_logps * sequences.completion_mask[:, 1:]).sum(-1)
    torch.testing.assert_close(logps[batch.candidate_mask].double(), expected, rtol=1e-6, atol=1e-5)
