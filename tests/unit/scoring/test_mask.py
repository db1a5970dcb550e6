"""Attention masks by hand."""

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, MistralModel, Qwen3Config, Qwen3Model
from transformers.models.llama.modeling_llama import LlamaModel

from sempa_lightning.scoring.mask import tree_mask, visible
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.types import TokenizedRow

SIZE = {
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture
def sequences():
    """Common start 1 2, anchor 3 with candidates 4 5 and 6, anchor 7 8 with candidate 9; then one alone, padded."""
    rows = [TokenizedRow("a", [1, 2, 3], [[4, 5, 0], [6, 0]], 1), TokenizedRow("b", [1, 2, 7, 8], [[9, 0]], 1)]
    together = Packed(100)(rows, 0).sequences
    alone = Packed(1)([TokenizedRow("c", [1, 2, 3, 4, 5, 6], [[7, 0]], 1)], 0).sequences
    columns = zip(together[:3], alone[:3], strict=True)
    padded = [torch.cat([one, torch.nn.functional.pad(two, (0, 2))]) for one, two in columns]
    return together._replace(**dict(zip(together._fields[:3], padded, strict=True)))


def test_visible_by_hand(sequences):
    assert visible(sequences, None).int().tolist() == [
        [
            [
                # 1  2  3  4  5  6  7  8  9
                [1, 0, 0, 0, 0, 0, 0, 0, 0],  # 1
                [1, 1, 0, 0, 0, 0, 0, 0, 0],  # 2
                [1, 1, 1, 0, 0, 0, 0, 0, 0],  # 3, first prompt
                [1, 1, 1, 1, 0, 0, 0, 0, 0],  # 4, its first candidate
                [1, 1, 1, 1, 1, 0, 0, 0, 0],  # 5
                [1, 1, 1, 0, 0, 1, 0, 0, 0],  # 6, its second candidate
                [1, 1, 0, 0, 0, 0, 1, 0, 0],  # 7, second prompt
                [1, 1, 0, 0, 0, 0, 1, 1, 0],  # 8
                [1, 1, 0, 0, 0, 0, 1, 1, 1],  # 9, its candidate
            ]
        ],
        # The second row ends after seven tokens; padding sees itself.
        [[[int(column <= row if row < 7 else column == row) for column in range(9)] for row in range(9)]],
    ]


def test_a_window_counts_positions(sequences):
    assert visible(sequences, 2)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("window", [None, 1, 3])
def test_every_token_sees_itself(sequences, window):
    """An empty row would be NaN in the softmax."""
    assert visible(sequences, window)[:, 0].diagonal(dim1=-2, dim2=-1).all()


def test_one_mask_for_each_type_of_layer(sequences):
    config = Qwen3Config(
        **SIZE, layer_types=["full_attention", "sliding_attention"], sliding_window=2, use_sliding_window=True
    )
    masks = tree_mask(sequences, Qwen3Model(config))
    assert masks.keys() == {"full_attention", "sliding_attention"}
    assert masks["full_attention"].equal(visible(sequences, None))
    assert masks["sliding_attention"].equal(visible(sequences, 2))


def test_one_mask_where_all_layers_are_alike(sequences):
    assert tree_mask(sequences, MistralModel(MistralConfig(**SIZE, sliding_window=2))).equal(visible(sequences, 2))
    assert tree_mask(sequences, LlamaModel(LlamaConfig(**SIZE))).equal(visible(sequences, None))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eager_attention_adds_its_mask(sequences, dtype):
    backbone = LlamaModel(LlamaConfig(**SIZE)).to(dtype)
    backbone.set_attn_implementation("eager")
    mask = tree_mask(sequences, backbone)
    assert mask.dtype == dtype
    assert mask.eq(0).equal(visible(sequences, None))
    assert mask[mask != 0].eq(torch.finfo(dtype).min).all()
