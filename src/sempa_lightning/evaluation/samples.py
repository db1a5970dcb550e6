"""What a person looks at: nearest neighbours and generated paraphrases."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from sempa_lightning.check import Count
from sempa_lightning.data.missing import why_missing
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.similarity import cosine_matrix
from sempa_lightning.models.generation import Sampling, continue_texts
from sempa_lightning.models.user_text import UserText


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
    neighbours: Count
    max_new_tokens: Count


def candidates(spec: SampleSpec) -> list[str]:
    """Return the distinct sentences of the pool among which neighbours are looked for.

    Raises:
        UserError: If there are fewer than neighbours are asked for.
    """
    pool = [text for text in dict.fromkeys(spec.pool) if text not in spec.sentences]
    if spec.neighbours > len(pool):
        raise UserError(
            f"samples.neighbours: {spec.neighbours} are more than the {len(pool)} sentences of samples.pool. Set fewer."
        )
    return pool


def draw_samples(subject: Subject, spec: SampleSpec) -> Samples:
    """Find each sentence's nearest neighbours in the pool and paraphrase it greedily.

    Raises:
        UserError: If the pool has fewer sentences than neighbours are asked for.
    """
    pool = candidates(spec)
    vectors = subject.embedder.encode([*spec.sentences, *pool])
    similarity = cosine_matrix(vectors[: len(spec.sentences)], vectors[len(spec.sentences) :])
    neighbours = {}
    for sentence, row in zip(spec.sentences, similarity, strict=True):
        values, places = row.topk(spec.neighbours)
        neighbours[sentence] = [(pool[int(p)], float(v)) for v, p in zip(values, places, strict=True)]
    shield = UserText(subject.tokenizer).shield
    paraphrases = continue_texts(
        subject.model,
        subject.tokenizer,
        [subject.prompt.prompt(subject.tokenizer, shield(sentence)) for sentence in spec.sentences],
        Sampling(spec.max_new_tokens),
        special_tokens=not subject.prompt.chat,
    )
    return Samples(
        neighbours, {sentence: written.text for sentence, written in zip(spec.sentences, paraphrases, strict=True)}
    )


class SampleTask:
    """Nearest neighbours and paraphrases, for the report.

    Args:
        spec: Which samples to draw.
    """

    def __init__(self, spec: SampleSpec) -> None:
        self._spec = spec

    @property
    def missing(self) -> str | None:
        """Why the pool cannot be read, or None."""
        return why_missing(self._spec.pool)

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Draw them; an item is a sentence, and the notes hold the texts (see `Samples`)."""
        (samples,) = [draw_samples(subject, self._spec) for _ in progress([self._spec])]
        nearest = [[cosine for _, cosine in found] for found in samples.neighbours.values()]
        return Measurement({"cosine": torch.tensor(nearest).mean(-1)}, samples._asdict())

    def metrics(self, items: Items) -> dict[str, float]:
        """Mean cosine of sentences with their nearest neighbours, -1 to 1."""
        return {"neighbour_cosine": float(items["cosine"].mean())}
