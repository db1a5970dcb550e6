"""Sentences on their way through a model, read out in one way."""

import contextlib
import copy
import logging
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder, eager_attention, max_positions
from sempa_lightning.models.embedding_cache import EmbeddingCache, Vectors
from sempa_lightning.models.forward import FORWARD_ERRORS, brief, relative_difference, takes, tolerance
from sempa_lightning.models.layer_states import layer_index, run_layers
from sempa_lightning.models.prompt_tokens import PromptBatch, PromptTokenizer, PromptTokens
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.sharding import device_of
from sempa_lightning.prompts.shared_start import shared_start
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.types import TokenStates, padded


def prompt_tokenizer(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, readout: Readout, template: PromptTemplate | None = None
) -> PromptTokenizer:
    """How a readout's sentences become prompts, in its own template or in another."""
    limit = min(max_positions(model), tokenizer.model_max_length)
    return PromptTokenizer(tokenizer, template or readout.template, readout.preprocess, limit)


class Reading:
    """Distinct sentences, each of which is read once, or found in a cache.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        readout: How a vector is read out.
        sentences: What is read.
        cache: What was read before; None for nothing.

    Raises:
        UserError: If the model has no such layer.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        readout: Readout,
        sentences: Sequence[str],
        cache: EmbeddingCache | None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._readout = readout
        self._cache = cache
        self._asked = [self._index(layer) for layer in readout.layers]
        self._layers = sorted({*self._asked, *(self._index(layer) for layer in (cache.keep_layers if cache else ()))})
        prompts = prompt_tokenizer(model, tokenizer, readout)(sentences)
        self._prompts = dict(zip(sentences, prompts, strict=True))
        found = cache.get(readout, prompts, self._layers) if cache else {}
        self._vectors: dict[str, Vectors] = {sentences[place]: vectors for place, vectors in found.items()}
        self._unread = sorted(
            (sentence for sentence in sentences if sentence not in self._vectors),
            key=lambda sentence: (len(self._prompts[sentence].ids), sentence),
            reverse=True,
        )

    def batches(self, size: int) -> list[list[str]]:
        """What must be read, sentences of like length together."""
        return [self._unread[at : at + size] for at in range(0, len(self._unread), size)]

    def read(self, sentences: list[str]) -> None:
        """Read a batch; gradients and the model's mode are the caller's matter."""
        prompts = [self._prompts[sentence] for sentence in sentences]
        prefix = self._prefix
        rests = padded([prompt.ids[prefix.length :] for prompt in prompts], 0).to(self._device)
        with self._steered(prompts, sentences):
            output, states = self._behind(prefix, rests)
        lengths = torch.tensor([len(prompt.ids) for prompt in prompts], device=self._device)
        mask = torch.arange(prefix.length + rests.shape[1], device=self._device) < lengths[:, None]
        text_mask = padded([prompt.text for prompt in prompts], 0).to(self._device).bool()
        last = lengths - prefix.length - 1
        pooled = {
            layer: self._readout.pooling(
                TokenStates(
                    prefix.before(states[layer], layer),
                    mask,
                    text_mask,
                    _attention(output.attentions[layer - 1], last, mask.shape[1]) if self._readout.attention else None,
                )
            )
            for layer in self._layers
        }
        pooled = {layer: rows.float().cpu() for layer, rows in pooled.items()}
        for row, sentence in enumerate(sentences):
            self._vectors[sentence] = {layer: rows[row] for layer, rows in pooled.items()}

    def vectors(self) -> Float[Tensor, "sentences width"]:
        """The vectors of all sentences, in their order, once all are read; what is new goes to the cache."""
        if self._cache and self._unread:
            new = {layer: torch.stack([self._vectors[text][layer] for text in self._unread]) for layer in self._layers}
            self._cache.put(self._readout, [self._prompts[sentence] for sentence in self._unread], new)
            self._unread = []
        rows = [torch.stack([self._vectors[text][layer] for layer in self._asked]) for text in self._prompts]
        return torch.stack(rows).mean(1)

    def truncated(self, sentence: str) -> bool:
        """Whether a sentence has lost tokens at its end."""
        return self._prompts[sentence].truncated

    def _index(self, layer: int) -> int:
        lowest = 1 if self._readout.attention else 0  # embeddings attend to nothing
        return layer_index(self._model, layer, lowest)

    @cached_property
    def _prefix(self) -> "_Prefix":
        """What all prompts that are read begin with, run once; nothing where the model is steered or cannot reuse it.

        The longest and the shortest prompt are read without a prefix, too, unless prompts of that length were before:
        caches are of many kinds, and one that is not repeated or continued exactly would change embeddings.
        """
        prompts = [self._prompts[sentence].ids for sentence in self._unread]
        tokens = shared_start(prompts)
        backbone = decoder(self._model)
        checked = _REUSED.get(backbone, 0)
        if not tokens or self._readout.steering is not None or checked is None:
            return _NO_PREFIX
        if checked >= len(prompts[0]):
            return self._run_prefix(tokens)
        try:
            prefix = self._run_prefix(tokens)
            reason = self._misfit(prefix, prompts)
        except torch.OutOfMemoryError:
            raise
        except FORWARD_ERRORS as error:
            reason = brief(error)
        if reason is None:
            _REUSED[backbone] = len(prompts[0])
            return prefix
        _REUSED[backbone] = None
        _LOGGER.warning("%s reads every prompt whole: its cache cannot be reused (%s)", type(backbone).__name__, reason)
        return _NO_PREFIX

    def _run_prefix(self, tokens: list[int]) -> "_Prefix":
        output, states = self._run(input_ids=torch.tensor([tokens], device=self._device), use_cache=True)
        return _Prefix(len(tokens), output.past_key_values, states)

    def _behind(self, prefix: "_Prefix", rests: Tensor) -> tuple[Any, dict[int, Tensor]]:
        """Run what stands behind a prefix, padded on the right, where causal attention does not look."""
        if not prefix.length:
            return self._run(input_ids=rests, use_cache=False)
        if not takes(decoder(self._model), "past_key_values"):
            raise TypeError("no past_key_values")
        return self._run(input_ids=rests, past_key_values=prefix.repeated(len(rests)), use_cache=True)

    def _misfit(self, prefix: "_Prefix", prompts: Sequence[list[int]]) -> str | None:
        """Why the states of the longest and the shortest prompt are not those of the prompts read whole, or None."""
        probes = [prompts[0], prompts[-1]]
        rests = padded([ids[prefix.length :] for ids in probes], 0).to(self._device)
        _, found = self._behind(prefix, rests)
        for row, ids in enumerate(probes):
            _, expected = self._run(input_ids=torch.tensor([ids], device=self._device), use_cache=False)
            for layer, states in expected.items():
                whole = prefix.before(found[layer], layer)[row, : len(ids)]
                if (off := relative_difference(whole, states[0])) > tolerance(self._model):
                    return f"hidden states of layer {layer} are off by {off:.2g}"
        return None

    def _steered(self, prompts: Sequence[PromptTokens], sentences: Sequence[str]) -> AbstractContextManager[None]:
        if self._readout.steering is None:
            return contextlib.nullcontext()

        def reworded(template: PromptTemplate) -> PromptBatch:
            tokenize = prompt_tokenizer(self._model, self._tokenizer, self._readout, template)
            return PromptBatch.of(tokenize(sentences), self._device)

        return self._readout.steering.steer(self._model, PromptBatch.of(prompts, self._device), reworded)

    def _run(self, **inputs: Any) -> tuple[Any, dict[int, Tensor]]:  # noqa: ANN401 (as `run_layers`)
        if not self._readout.attention:
            return run_layers(self._model, self._layers, **inputs)
        with eager_attention(self._model):
            output, states = run_layers(self._model, self._layers, output_attentions=True, **inputs)
        if not getattr(output, "attentions", None) or any(
            output.attentions[layer - 1] is None for layer in self._layers
        ):
            raise UserError(
                f"readout.attention: {type(decoder(self._model)).__name__} shows no attention weights at layers"
                f" {self._layers}: choose another readout, such as readout=prompt_eol"
            )
        return output, states

    @property
    def _device(self) -> torch.device:
        return device_of(self._model)


_LOGGER = logging.getLogger(__name__)

# The longest prompt at which a decoder's cache was reused exactly; None for one that cannot reuse it.
_REUSED: weakref.WeakKeyDictionary[nn.Module, int | None] = weakref.WeakKeyDictionary()


class _Prefix(NamedTuple):
    """What all prompts of a call begin with.

    Attributes:
        length: Its tokens; without any there is no cache and there are no states.
        cache: Keys and values.
        states: Its hidden states by layer.
    """

    length: int
    cache: Any
    states: dict[int, Tensor]

    def repeated(self, times: int) -> Any:  # noqa: ANN401 (a cache of the library)
        """A cache of its own for a batch."""
        cache = copy.deepcopy(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(times)
        return cache

    def before(self, states: Tensor, layer: int) -> Tensor:
        """The states of whole prompts, given those behind the prefix."""
        if layer not in self.states:
            return states
        return torch.cat([self.states[layer].expand(len(states), -1, -1), states], dim=1)


_NO_PREFIX = _Prefix(0, None, {})


def _attention(
    weights: Float[Tensor, "sequences heads queries keys"], last: Tensor, tokens: int
) -> Float[Tensor, "sequences tokens"]:
    """How much the last tokens attend to each token of the whole prompts, mean over heads."""
    row = weights[torch.arange(len(last), device=last.device), :, last].float().mean(1)
    return F.pad(row, (tokens - row.shape[1], 0))  # a sliding window no longer holds the first tokens
