"""Whether a tokenizer fits a model: token ids that the model has embeddings for, and the way to them."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sempa_lightning.errors import UserError


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot be used, choose a pad token that the model knows, and guard its embedding.

    Padding is masked, so that any token of the model will do for it. Where the tokenizer has other tokens that the
    model has no embedding for, the embedding refuses them when a text brings one.

    Raises:
        UserError: If the tokenizer is a slow one.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"model.path: {type(tokenizer).__name__} is a slow tokenizer, which does not say which characters a token"
            " holds: give a model with a fast tokenizer (tokenizer.json)"
        )
    embedding = model.get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None)
    if tokenizer.pad_token_id is None or (rows is not None and tokenizer.pad_token_id >= rows):
        tokenizer.pad_token = tokenizer.eos_token
    if rows is not None and len(tokenizer) > rows:
        embedding.register_forward_pre_hook(_Guard(rows, tokenizer))


class _Guard:
    """Stops at a token id that an embedding has no row for, which is an assertion on a GPU.

    Args:
        rows: Number of rows.
        tokenizer: Names the tokens.
    """

    def __init__(self, rows: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self._rows = rows
        self._tokenizer = tokenizer

    def __call__(self, embedding: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002 (torch's signature)
        """Look at the ids.

        Raises:
            UserError: If one is outside the embedding.
        """
        ids = inputs[0] if inputs else None
        if isinstance(ids, Tensor) and ids.numel() and (largest := int(ids.max())) >= self._rows:
            raise UserError(
                f"model.path: token {self._tokenizer.convert_ids_to_tokens(largest)!r} has id {largest}, but the"
                f" model has {self._rows} embeddings: remove it from the texts, or resize the model to its tokenizer"
            )
