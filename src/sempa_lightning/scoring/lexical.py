"""Sparse vectors over the vocabulary, from the very states that dense embeddings are."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import causal_lm
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.readout import SentenceReadout
from sempa_lightning.scoring.head import lm_head

# Sentences whose logits exist at once.
_CHUNK = 64


class LexicalEmbeddings(NamedTuple):
    """Dense and sparse vectors of sentences.

    Attributes:
        dense: What `Embedder.encode` gives.
        tokens: Vocabulary entries with the largest weights, largest first.
        weights: Their weights; 0 where fewer entries than asked for have one.
        nonzero: Share of the vocabulary that has a weight, before the largest are chosen: 0 to 1.
    """

    dense: Float[Tensor, "sentences hidden"]
    tokens: Int[Tensor, "sentences entries"]
    weights: Float[Tensor, "sentences entries"]
    nonzero: Float[Tensor, " sentences"]


@torch.no_grad()
def encode_lexical(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    readout: SentenceReadout,
    sentences: Sequence[str],
    *,
    top_k: int,
    batch_size: int = 32,
) -> LexicalEmbeddings:
    """Read sentences once, as dense vectors and as log-saturated weights of vocabulary entries.

    A weight is log(1 + max(0, logit)), the logits being those of the language-model head on the dense vector
    (PromptReps, Zhuang et al. 2024, arXiv 2404.18424; the saturation is SPLADE's).

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        readout: Of the last layer, which alone the head can read.
        sentences: What to encode.
        top_k: Entries kept for each sentence.
        batch_size: Sentences of one forward pass.

    Raises:
        UserError: If the readout is of another layer or of another width.
    """
    head = lm_head(model)
    layers = {layer for part in readout.parts for layer in part.layers}
    dense = Embedder(model, tokenizer, readout, batch_size).encode(sentences)
    width = causal_lm(model).config.get_text_config().hidden_size
    if layers != {-1} or dense.shape[1] != width:
        raise UserError(
            f"the language-model head reads vectors of the last layer, {width} wide, not {dense.shape[1]} wide ones of"
            f" readout.layer={sorted(layers)}: take readout=prompt_eol"
        )
    weight = next(head.layer.parameters())
    tokens, weights, nonzero = [], [], []
    for start in range(0, len(dense), _CHUNK):
        states = dense[start : start + _CHUNK]
        saturated = head.logits(states.to(weight)).relu().log1p()
        largest = saturated.topk(min(top_k, saturated.shape[1]))
        tokens.append(largest.indices.cpu())
        weights.append(largest.values.float().cpu())
        nonzero.append((saturated > 0).float().mean(1).cpu())
    return LexicalEmbeddings(dense, torch.cat(tokens), torch.cat(weights), torch.cat(nonzero))
