"""Sentence embeddings read out of a causal language model."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder, evaluating, max_positions
from sempa_lightning.pooling import Pooling
from sempa_lightning.prompts.shared_start import shared_start
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
    attention cannot see it: an embedding does not depend on its batch mates. What all prompts begin with is read
    once, and its keys and values are used again. A sentence too long for the model's context loses tokens at its end;
    the text around it stays whole.

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
        ids = {sentence: self._token_ids(sentence) for sentence in set(sentences)}
        distinct = sorted(ids, key=lambda sentence: (len(ids[sentence]), sentence), reverse=True)
        batches = [distinct[at : at + self._batch_size] for at in range(0, len(distinct), self._batch_size)]
        with evaluating(self._model):
            prefix = self._prefix(list(ids.values()))
            vectors = torch.cat(
                [self._encode_batch([ids[sentence] for sentence in batch], prefix) for batch in progress(batches)]
            )
        place = {sentence: index for index, sentence in enumerate(distinct)}
        return vectors[[place[sentence] for sentence in sentences]]

    def _prefix(self, ids: list[list[int]]) -> "_Prefix":
        """Run what all prompts begin with, once; a single prompt is run as a whole."""
        if not (tokens := shared_start(ids)):
            return _Prefix(0, None, None)
        output = self._run(input_ids=torch.tensor([tokens], device=self._device), use_cache=True)
        return _Prefix(len(tokens), output.past_key_values, self._states(output))

    def _encode_batch(self, ids: list[list[int]], prefix: "_Prefix") -> Float[Tensor, "sentences hidden"]:
        rests = [torch.tensor(row[prefix.length :], device=self._device) for row in ids]
        lengths = torch.tensor([len(row) for row in ids], device=self._device)
        input_ids = nn.utils.rnn.pad_sequence(rests, batch_first=True)
        # Padding stands on the right, where causal attention does not look: no mask is needed for it.
        output = self._run(
            input_ids=input_ids,
            position_ids=prefix.length + torch.arange(input_ids.shape[1], device=self._device)[None],
            past_key_values=prefix.repeated(len(ids)),
            use_cache=prefix.length > 0,
        )
        states = prefix.before(self._states(output))
        mask = torch.arange(states.shape[1], device=self._device) < lengths[:, None]
        return self._readout.pooling(states, mask).float().cpu()

    def _run(self, **inputs: Any) -> Any:  # noqa: ANN401 (what the library takes and returns)
        return decoder(self._model)(output_hidden_states=self._readout.layer != -1, **inputs)

    def _states(self, output: Any) -> Tensor:  # noqa: ANN401 (as above)
        states: Tensor = (
            output.last_hidden_state if self._readout.layer == -1 else output.hidden_states[self._readout.layer]
        )
        return states

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

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


class _Prefix(NamedTuple):
    """What all prompts of a call begin with.

    Attributes:
        length: Its tokens; without any there is no cache and there are no states.
        cache: Keys and values.
        states: Hidden states of the readout's layer.
    """

    length: int
    cache: Any
    states: Tensor | None

    def repeated(self, times: int) -> Any:  # noqa: ANN401 (a cache of the library)
        """A cache of its own for a batch."""
        cache = copy.deepcopy(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(times)
        return cache

    def before(self, states: Tensor) -> Tensor:
        """The states of whole prompts, given those behind the prefix."""
        if self.states is None:
            return states
        return torch.cat([self.states.expand(len(states), -1, -1), states], dim=1)
