"""Attention masks of packed sequences, for the library's own attention."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from sempa_lightning.types import PackedSequences


def visible(sequences: PackedSequences, window: int | None) -> Bool[Tensor, "sequences 1 tokens tokens"]:
    """What each token (third axis) may see (fourth axis): itself and the tokens in whose run it stands.

    A sliding window counts positions, not columns: a token's text goes on from the one before it, whatever stands
    between them.
    """
    column = torch.arange(sequences.input_ids.shape[1], device=sequences.input_ids.device)
    follows = (column[:, None] > column) & (column[:, None] < sequences.run_ends[:, None])
    mask = follows | (column[:, None] == column)
    if window is not None:
        position = sequences.position_ids
        mask = mask & (position[:, :, None] - position[:, None] < window)
    return mask[:, None]


def tree_mask(sequences: PackedSequences, backbone: nn.Module) -> Any:  # noqa: ANN401 (what the backbone takes)
    """The mask in the form that the backbone takes: one for all layers, or one for each type of layer.

    A mask of four axes replaces the model's own, a sliding window included, so the window is part of it.
    """
    config: Any = backbone.config
    window = getattr(config, "sliding_window", None)
    windows = {"full_attention": None, "sliding_attention": window}
    layer_types = set(getattr(config, "layer_types", None) or [])
    if layer_types and layer_types <= windows.keys():
        return {name: _as_taken(visible(sequences, windows[name]), backbone) for name in layer_types}
    return _as_taken(visible(sequences, window), backbone)


def _as_taken(mask: Tensor, backbone: nn.Module) -> Tensor:
    """Eager attention adds its mask to the scores; the others take True and False."""
    config: Any = backbone.config
    if config._attn_implementation != "eager":
        return mask
    dtype = next(backbone.parameters()).dtype
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
