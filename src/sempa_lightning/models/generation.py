"""Continuing texts with a language model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase


@torch.no_grad()
def continue_texts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 8,
    special_tokens: bool = True,
) -> list[str]:
    """Continue each text until an end token or `max_new_tokens`; returns the continuations alone, stripped.

    Args:
        model: A causal language model of the Hugging Face library, with or without adapter.
        tokenizer: Its tokenizer.
        texts: What to continue.
        max_new_tokens: Longest continuation.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn at that temperature.
        batch_size: Texts of one forward pass.
        special_tokens: Whether the tokenizer adds its begin token; a rendered chat has it already.
    """
    generator: Any = model
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    continuations: list[str] = []
    for at in range(0, len(texts), batch_size):
        # Padded on the left: a continuation begins behind the last column of its text.
        inputs = tokenizer(
            list(texts[at : at + batch_size]),
            add_special_tokens=special_tokens,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(generator.device)
        ids = generator.generate(
            **inputs, max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id, **sampling
        )
        continuations += tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in continuations]
