"""Which tokens do embeddings decode to, and are they the sentence's own?"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sempa_lightning.data.missing import why_missing
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.alignment_rate import global_alignment_rate, hit_rate, local_alignment_rate
from sempa_lightning.models.causal_lm import causal_lm
from sempa_lightning.models.user_text import UserText
from sempa_lightning.types import padded

_CHUNK = 64


class DecodedTokens:
    """The tokens with the largest product of embedding and unembedding (Nie et al. 2025; SemPA, Table 7).

    The unembedding is made for the last layer after the final norm; an embedding of another layer is decoded as it
    stands. A sentence's tokens are those of the sentence alone, without prompt, preparation or special tokens.

    Args:
        sentences: What is embedded; equal sentences count once. They should be independent of each other.
        top: Tokens of each embedding.
        max_sentences: Sentences used at most, all when null.
        examples: How many sentences to show with their tokens.
    """

    def __init__(
        self, sentences: Iterable[str], top: int = 10, max_sentences: int | None = None, examples: int = 12
    ) -> None:
        self._sentences = sentences
        self._top = top
        self._max_sentences = max_sentences
        self._examples = examples

    @property
    def missing(self) -> str | None:
        """Why the sentences cannot be read, or None."""
        return why_missing(self._sentences)

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Decode all embeddings; an item is a sentence: its tokens, filled up with -1, and those it decodes to.

        Raises:
            UserError: If there is no sentence, or if embeddings are not as wide as the unembedding.
        """
        tokenizer = subject.tokenizer
        sentences = list(dict.fromkeys(self._sentences))[: self._max_sentences]
        if not sentences:
            raise UserError("there is no sentence to decode: give eval.tokens.<task>.sentences some")
        embedder = subject.embedder
        vectors = embedder.encode(sentences, progress)
        decoded = self._decode(subject, vectors)
        user_text = UserText(tokenizer)
        own = user_text.encode([user_text.shield(text) for text in sentences], add_special_tokens=False)
        surface = [list(dict.fromkeys(ids)) for ids in own["input_ids"]]
        shown = zip(sentences, decoded.tolist(), surface, strict=True)
        examples = [
            {
                "sentence": sentence,
                "tokens": [_written(tokenizer, token) for token in top],
                "own": [token in own for token in top],
            }
            for sentence, top, own in list(shown)[: self._examples]
        ]
        return Measurement(
            {"decoded": decoded, "surface": padded(surface, -1)},
            {"sentences": len(sentences), "truncated": embedder.truncated(sentences), "examples": examples},
        )

    def metrics(self, items: Items) -> dict[str, float]:
        """Global and local alignment rate, and the share of sentences with a hit, 0 to 1."""
        decoded, surface = items["decoded"], items["surface"]
        return {
            "gar": global_alignment_rate(decoded, surface),
            "lar": local_alignment_rate(decoded, surface),
            "hit": hit_rate(decoded, surface),
        }

    @torch.no_grad()
    def _decode(self, subject: Subject, vectors: Float[Tensor, "sentences hidden"]) -> Tensor:
        head = causal_lm(subject.model).get_output_embeddings()
        if vectors.shape[1] != head.weight.shape[1]:
            raise UserError(
                f"embeddings of {vectors.shape[1]} numbers cannot be decoded to tokens, the model's head takes"
                f" {head.weight.shape[1]}: choose a readout that keeps the width, or leave eval=[tokens] out"
            )
        chunks = torch.split(vectors.to(head.weight), _CHUNK)
        return torch.cat([head(chunk).float().topk(self._top).indices.cpu() for chunk in chunks])


def _written(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as its vocabulary writes it, with one sign for the space before it in every kind of vocabulary."""
    piece: str = tokenizer.convert_ids_to_tokens(token)
    return piece.replace("Ġ", "▁").replace("Ċ", "\\n")
