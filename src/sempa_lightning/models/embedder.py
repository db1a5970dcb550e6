"""Sentence embeddings read out of a causal language model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import evaluating, max_positions
from sempa_lightning.pooling import Pooling
from sempa_lightning.prompts.template import PromptTemplate


@dataclass(frozen=True)
class Readout:
    """How a sentence becomes a vector.

    Attributes:
        template: The prompt around the sentence.
        preprocess: What is done to the sentence first.
        layer: Index into the hidden states, embeddings included: -1 is the last layer after the final norm.
        pooling: From the layer's hidden states to one vector.
    """

    template: PromptTemplate
    preprocess: Callable[[str], str]
    layer: int
    pooling: Pooling


class Embedder:
    """Encodes sentences with a readout.

    Each distinct sentence is encoded once, in batches of like length, padded on the right, where causal
    attention cannot see it: an embedding does not depend on its batch mates. A sentence too long for the model's
    context loses tokens at its end; the text around it stays whole.

    Args:
        model: A causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        readout: Template, layer and pooling.
        batch_size: Sentences of one forward pass.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, readout: Readout, batch_size: int = 32
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._readout = readout
        self._batch_size = batch_size

    @torch.no_grad()
    def encode(
        self,
        sentences: Sequence[str],
        progress: Callable[[Sequence[list[str]]], Iterable[list[str]]] = iter,
    ) -> Float[Tensor, "sentences hidden"]:
        """Encode sentences, in input order, as float32 vectors on the CPU.

        Args:
            sentences: What to encode.
            progress: Wraps the sequence of batches, to show a progress bar.

        Raises:
            UserError: If the template alone does not fit the model's context.
        """
        distinct = sorted(set(sentences), key=lambda sentence: (len(sentence), sentence), reverse=True)
        batches = [distinct[at : at + self._batch_size] for at in range(0, len(distinct), self._batch_size)]
        with evaluating(self._model):
            vectors = torch.cat([self._encode_batch(batch) for batch in progress(batches)])
        place = {sentence: index for index, sentence in enumerate(distinct)}
        return vectors[[place[sentence] for sentence in sentences]]

    def _encode_batch(self, sentences: list[str]) -> Float[Tensor, "sentences hidden"]:
        ids = [torch.tensor(self._token_ids(sentence)) for sentence in sentences]
        lengths = torch.tensor([len(row) for row in ids])
        input_ids = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self._tokenizer.pad_token_id)
        device = next(self._model.parameters()).device
        mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).to(device)
        states = decoder(self._model)(
            input_ids=input_ids.to(device), attention_mask=mask.long(), output_hidden_states=True, use_cache=False
        ).hidden_states[self._readout.layer]
        return self._readout.pooling(states, mask).float().cpu()

    def _token_ids(self, sentence: str) -> list[int]:
        """Token ids of the whole prompt; what exceeds the model's context is cut off at the sentence's end."""
        ids = self._prompt_ids(sentence)
        limit = max_positions(self._model)
        if len(ids) <= limit:
            return ids
        if len(self._prompt_ids("")) >= limit:
            raise UserError(
                f"the readout's template leaves no room for a sentence in the model's {limit} positions: choose a"
                " shorter readout.template.text or another model"
            )
        return ids[: limit - len(self._tail)] + self._tail

    @cached_property
    def _tail(self) -> list[int]:
        """Tokens behind every sentence: what the prompts of two unlike sentences share at their end."""
        first, second = self._prompt_ids("0"), self._prompt_ids("1 2 3 4")
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(first), reversed(second), strict=False))
        return [token for token, _ in shared][::-1]

    def _prompt_ids(self, sentence: str) -> list[int]:
        template = self._readout.template
        text = template.prompt(self._tokenizer, self._readout.preprocess(sentence))
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=not template.chat)
        return ids


def decoder(model: nn.Module) -> nn.Module:
    """The model without its language-model head; an adapter stays in place."""
    causal_lm: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    inner: nn.Module = causal_lm.base_model
    return inner
