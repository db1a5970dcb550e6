"""What a person looks at: nearest neighbours and generated paraphrases."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.evaluation.task import Subject
from sempa_lightning.metrics.similarity import cosine_matrix
from sempa_lightning.models.embedder import Embedder


class Samples(NamedTuple):
    """What a subject does with a few sentences.

    Attributes:
        neighbours: For each sentence the nearest others, with their cosine.
        paraphrases: For each sentence the generated paraphrase.
    """

    neighbours: dict[str, list[tuple[str, float]]]
    paraphrases: dict[str, str]


@dataclass(frozen=True)
class SampleSpec:
    """Which samples to draw.

    Attributes:
        sentences: What is looked up and paraphrased.
        pool: Where neighbours are looked for.
        neighbours: How many nearest neighbours of each sentence.
        max_new_tokens: Longest paraphrase.
    """

    sentences: Sequence[str]
    pool: Iterable[str]
    neighbours: int
    max_new_tokens: int


def draw_samples(subject: Subject, spec: SampleSpec) -> Samples:
    """Find each sentence's nearest neighbours in the pool and paraphrase it greedily."""
    pool = [text for text in dict.fromkeys(spec.pool) if text not in spec.sentences]
    vectors = Embedder(subject.model, subject.tokenizer, subject.readout).encode([*spec.sentences, *pool])
    similarity = cosine_matrix(vectors[: len(spec.sentences)], vectors[len(spec.sentences) :])
    neighbours, paraphrases = {}, {}
    for sentence, row in zip(spec.sentences, similarity, strict=True):
        values, places = row.topk(spec.neighbours)
        neighbours[sentence] = [(pool[int(p)], float(v)) for v, p in zip(values, places, strict=True)]
        prompt = subject.prompt.prompt(subject.tokenizer, sentence)
        paraphrases[sentence] = generate(
            subject.model, subject.tokenizer, prompt, spec.max_new_tokens, special_tokens=not subject.prompt.chat
        )
    return Samples(neighbours, paraphrases)


@torch.no_grad()
def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    max_new_tokens: int,
    *,
    special_tokens: bool,
) -> str:
    """Continue a prompt greedily until an end token or `max_new_tokens`; returns the continuation alone.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompt: What to continue, rendered.
        max_new_tokens: Longest continuation.
        special_tokens: Whether the tokenizer adds its begin token; a rendered chat has it already.
    """
    ids = tokenizer(prompt, add_special_tokens=special_tokens, return_tensors="pt").to(model.device)
    output = model.generate(  # type: ignore[operator]
        **ids, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
    )
    text: str = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()
