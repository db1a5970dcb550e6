"""Sentence embeddings read out of a causal language model."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import evaluating
from sempa_lightning.models.embedding_cache import EmbeddingCache
from sempa_lightning.models.forward import check_causal
from sempa_lightning.models.reading import Reading, prompt_tokenizer
from sempa_lightning.models.readout import Readout, SentenceReadout

# Run folders name the readout here.
__all__ = ["Embedder", "Readout"]


class Embedded(NamedTuple):
    """What became of some sentences.

    Attributes:
        vectors: Float32, on the CPU, in the order of the sentences.
        truncated: How many were too long for the model's context, in one prompt at least.
    """

    vectors: Float[Tensor, "sentences width"]
    truncated: int


class Embedder:
    """Encodes sentences with a readout.

    Each distinct sentence is encoded once, in batches of like length, padded on the right, where causal
    attention cannot see it: an embedding does not depend on its batch mates. What all prompts begin with is read
    once, and its keys and values are used again, unless the readout steers the model. A sentence too long for the
    model's context loses tokens at its end; the text around it stays whole (see `PromptTokenizer`).

    Args:
        model: A causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        readout: Template, layer and pooling, or several of them.
        batch_size: Sentences of one forward pass.
        cache: Is asked first and keeps what was read; the same call gives the same vectors with and without it.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        readout: SentenceReadout,
        batch_size: int = 32,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._readout = readout
        self._batch_size = batch_size
        self._cache = cache

    def encode(
        self,
        sentences: Sequence[str],
        progress: Callable[[Sequence[list[str]]], Iterable[list[str]]] = iter,
    ) -> Float[Tensor, "sentences width"]:
        """Encode sentences, in input order, as float32 vectors on the CPU; arguments as in `embed`."""
        return self.embed(sentences, progress).vectors

    @torch.no_grad()
    def embed(
        self,
        sentences: Sequence[str],
        progress: Callable[[Sequence[list[str]]], Iterable[list[str]]] = iter,
    ) -> Embedded:
        """Encode sentences, and count those that were cut.

        Args:
            sentences: What to encode.
            progress: Wraps the sequence of batches, to show a progress bar.

        Raises:
            UserError: If the readout does not fit the model: no such layer, or a template longer than its context; or
                if the model is not causal or a vector is not finite.
        """
        check_causal(self._model)
        distinct = list(dict.fromkeys(sentences))
        readings = [Reading(self._model, self._tokenizer, part, distinct, self._cache) for part in self._readout.parts]
        work = [(reading, batch) for reading in readings for batch in reading.batches(self._batch_size)]
        with evaluating(self._model):
            for batch, (reading, _) in zip(progress([batch for _, batch in work]), work, strict=True):
                reading.read(batch)
        vectors = torch.stack([reading.vectors() for reading in readings]).mean(0)
        _check_finite(vectors, distinct)
        place = {sentence: index for index, sentence in enumerate(distinct)}
        truncated = sum(any(reading.truncated(sentence) for reading in readings) for sentence in sentences)
        return Embedded(vectors[[place[sentence] for sentence in sentences]], truncated)

    def truncated(self, sentences: Sequence[str]) -> int:
        """How many of the sentences are too long for the model's context in one prompt at least."""
        tokenizers = [prompt_tokenizer(self._model, self._tokenizer, part) for part in self._readout.parts]
        prompts = zip(*(tokenize(sentences) for tokenize in tokenizers), strict=True)
        return sum(any(prompt.truncated for prompt in of_one) for of_one in prompts)


def _check_finite(vectors: Float[Tensor, "sentences width"], sentences: Sequence[str]) -> None:
    if not (finite := vectors.isfinite().all(1)).all():
        sentence = sentences[int(finite.long().argmin())]
        raise UserError(
            f"the embedding of {sentence[:60]!r} is not finite: set model.dtype=float32, or check the weights"
        )
