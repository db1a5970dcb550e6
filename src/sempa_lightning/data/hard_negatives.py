"""Hard negatives: for each anchor the nearest sentences of a pool that are not too near."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.data.rows import Row
from sempa_lightning.data.text import words_of
from sempa_lightning.errors import UserError

Progress = Callable[[Sequence[int]], Iterable[int]]

# Sentences that are embedded, and kept, at once: what an interrupted command loses. Similarities held at once.
_SENTENCES, _SIMILARITIES = 4096, 2**24


@dataclass(frozen=True)
class Window:
    """Cosines with its anchor at which a sentence is taken for a negative: below the upper bounds, not below the lower.

    A sentence nearer than that may well be right itself: a false negative.

    Attributes:
        of_positive: Upper bound as a share p of the positive's cosine c, above 0 and up to 1: c - (1 - p)·|c|, which is
            p·c unless c is negative. TopK-PercPos of NV-Retriever (Moreira et al. 2024, arXiv 2407.15831), which found
            0.95 best. Null for none.
        max_similarity: Upper bound. Null for none.
        min_similarity: Lower bound. Null for none.

    Raises:
        UserError: If the share is another number, or the bounds leave nothing between them.
    """

    of_positive: float | None
    max_similarity: float | None
    min_similarity: float | None

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.of_positive is not None and not 0 < self.of_positive <= 1:
            raise UserError(f"of_positive={self.of_positive} is not a share above 0 and up to 1; null is no bound")
        if self.max_similarity is not None and self.lowest >= self.max_similarity:
            raise UserError(
                f"no cosine is below max_similarity={self.max_similarity} and not below"
                f" min_similarity={self.min_similarity}"
            )

    @property
    def lowest(self) -> float:
        """The lower bound."""
        return -torch.inf if self.min_similarity is None else self.min_similarity

    def upper(self, positives: Float[Tensor, " anchors"]) -> Float[Tensor, " anchors"]:
        """The upper bound of each anchor, given the cosine with its positive."""
        bounds = torch.full_like(positives, torch.inf)
        if self.of_positive is not None:
            bounds = positives - (1 - self.of_positive) * positives.abs()
        return bounds if self.max_similarity is None else bounds.clamp(max=self.max_similarity)


class Found(NamedTuple):
    """What a search has found for an anchor.

    Attributes:
        places: The nearest sentences within the window, nearest first.
        similarities: Their cosines with the anchor.
        too_near: The nearest sentence above the window and its cosine; None if there is none.
    """

    places: list[int]
    similarities: list[float]
    too_near: tuple[int, float] | None


def search(
    anchors: Float[Tensor, "anchors width"],
    sentences: Float[Tensor, "sentences width"],
    positives: Float[Tensor, " anchors"],
    own: Sequence[Sequence[int]],
    window: Window,
    number: int,
    progress: Progress = iter,
) -> tuple[list[Found], dict[str, int]]:
    """Find the nearest sentences of each anchor within a window: all are compared, some anchors at a time.

    Args:
        anchors: Embeddings of unit length.
        sentences: Embeddings of unit length.
        positives: Cosine of each anchor with its positive.
        own: For each anchor, the sentences that are no negatives of it, however near.
        window: Cosines of negatives.
        number: Sentences of an anchor at most.
        progress: Wraps the sequence of chunks, to show a progress bar.

    Returns:
        What was found for each anchor, and how many pairs of anchor and sentence were left out, by reason.
    """
    found: list[Found] = []
    left_out: Counter[str] = Counter()
    at_once = max(1, _SIMILARITIES // len(sentences))
    for at in progress(range(0, len(anchors), at_once)):
        chunk = slice(at, at + at_once)
        similarities = anchors[chunk] @ sentences.T
        pairs = [(row, place) for row, places in enumerate(own[chunk]) for place in places]
        same = torch.zeros_like(similarities, dtype=torch.bool)
        same[torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(-1)] = True
        too_near = ~same & (similarities >= window.upper(positives[chunk])[:, None])
        too_far = ~same & (similarities < window.lowest)
        left_out.update(same_words=int(same.sum()), too_near=int(too_near.sum()), too_far=int(too_far.sum()))
        kept = similarities.masked_fill(same | too_near | too_far, -torch.inf).topk(min(number, len(sentences)))
        nearest = similarities.masked_fill(~too_near, -torch.inf).max(-1)
        columns = (kept.indices, kept.values, nearest.indices, nearest.values)
        for places, values, place, value in zip(*(column.tolist() for column in columns), strict=True):
            live = [cosine for cosine in values if cosine > -torch.inf]
            found.append(Found(places[: len(live)], live, (place, value) if value > -torch.inf else None))
    return found, dict(left_out)


@dataclass(frozen=True)
class Embedded:
    """Sentences and their embeddings of unit length.

    Attributes:
        places: Row of each sentence.
        vectors: A row each.
    """

    places: Mapping[str, int]
    vectors: Float[Tensor, "sentences width"]

    @classmethod
    def of(
        cls,
        sentences: Iterable[str],
        encode: Callable[[Sequence[str]], Tensor],
        device: torch.device,
        progress: Progress = iter,
    ) -> "Embedded":
        """Embed the distinct ones of some sentences, some at a time, and keep the vectors on a device."""
        distinct = list(dict.fromkeys(sentences))
        starts = progress(range(0, len(distinct), _SENTENCES))
        vectors = torch.cat([encode(distinct[at : at + _SENTENCES]) for at in starts]).to(device)
        return cls({sentence: place for place, sentence in enumerate(distinct)}, F.normalize(vectors, dim=-1))

    def __call__(self, sentences: Sequence[str]) -> Float[Tensor, "some width"]:
        """Embeddings of some of the sentences."""
        return self.vectors[[self.places[sentence] for sentence in sentences]]


@dataclass(frozen=True)
class MinedRow:
    """A row with its mined negatives.

    Attributes:
        row: Anchor, chosen and rejected, the mined ones last.
        positive: Cosine of the anchor with its first chosen.
        similarities: Cosines of the anchor with the rejected.
        too_near: The nearest sentence that was taken for a false negative, and its cosine; None if there is none.
    """

    row: Row
    positive: float
    similarities: list[float]
    too_near: tuple[str, float] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a table."""
        row = {"anchor": self.row.anchor, "chosen": self.row.chosen, "rejected": self.row.rejected}
        return row | {"positive_similarity": self.positive, "similarities": self.similarities}


@dataclass(frozen=True)
class Mined:
    """What became of some rows.

    Attributes:
        rows: Those that have a rejected candidate, in their order.
        without: How many have none.
        left_out: How many sentences were no negatives of an anchor, by reason (see `search`).
    """

    rows: list[MinedRow]
    without: int
    left_out: Mapping[str, int]

    def as_dict(self, shown: int) -> dict[str, Any]:
        """Counts, and the first rows as examples, for JSON."""
        sizes = Counter(len(mined.row.chosen) + len(mined.row.rejected) for mined in self.rows)
        examples = [mined.as_dict() | {"too_near": mined.too_near} for mined in self.rows[:shown]]
        return {
            "rows": len(self.rows),
            "without_negatives": self.without,
            "candidates": {str(size): count for size, count in sorted(sizes.items())},
            "left_out": dict(self.left_out),
            "examples": examples,
        }


def distinct_sentences(rows: Iterable[Row]) -> list[str]:
    """All chosen and rejected sentences; of those that differ in case, punctuation and spacing alone, the first."""
    found: dict[tuple[str, ...], str] = {}
    for row in rows:
        for sentence in (*row.chosen, *row.rejected):
            found.setdefault(words_of(sentence), sentence)
    return list(found.values())


Chosen = Mapping[tuple[str, ...], set[tuple[str, ...]]]
"""Words of what is chosen for each anchor, by the words of the anchor."""


def chosen_words(rows: Iterable[Row]) -> Chosen:
    """Collect what is chosen for each anchor in any row; case, punctuation and spacing are ignored."""
    chosen: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for row in rows:
        chosen[words_of(row.anchor)] |= {words_of(sentence) for sentence in row.chosen}
    return chosen


def own_sentences(rows: Sequence[Row], pool: Sequence[str], chosen: Chosen, *, with_rejected: bool) -> list[list[int]]:
    """For each row, the places in the pool of its anchor and of all that is chosen for that anchor.

    Case, punctuation and spacing are ignored.

    Args:
        rows: The rows.
        pool: Sentences, no two of the same words.
        chosen: What is chosen for each anchor in any row of any part.
        with_rejected: Also what is rejected in the row.
    """
    places = {words_of(sentence): place for place, sentence in enumerate(pool)}
    own = []
    for row in rows:
        anchor = words_of(row.anchor)
        rejected = {words_of(sentence) for sentence in row.rejected} if with_rejected else set()
        own.append([places[words] for words in sorted({anchor} | chosen[anchor] | rejected) if words in places])
    return own


def mined_rows(
    rows: Sequence[Row],
    pool: Sequence[str],
    embedded: Embedded,
    window: Window,
    number: int,
    *,
    chosen: Chosen,
    given: bool,
    progress: Progress = iter,
) -> Mined:
    """Give each row the nearest sentences of a pool as rejected candidates.

    Args:
        rows: What is mined for.
        pool: Sentences, no two of the same words (see `distinct_sentences`).
        embedded: Embeddings of pool and rows.
        window: Cosines of negatives.
        number: Mined candidates of a row at most.
        chosen: What is chosen for each anchor in any row of any part (see `chosen_words`): never mined for it.
        given: Keep the rejected candidates that a row has, before the mined ones; else these take their place.
        progress: Wraps the sequence of chunks, to show a progress bar.
    """
    anchors = embedded([row.anchor for row in rows])
    positives = (anchors * embedded([row.chosen[0] for row in rows])).sum(-1)
    own = own_sentences(rows, pool, chosen, with_rejected=given)
    found, left_out = search(anchors, embedded(pool), positives, own, window, number, progress)
    mined = []
    for place, (row, nearest) in enumerate(zip(rows, found, strict=True)):
        kept = row.rejected if given else ()
        cosines = (embedded(kept) @ anchors[place]).tolist()
        rejected = (*kept, *(pool[index] for index in nearest.places))
        if rejected:
            too_near = nearest.too_near and (pool[nearest.too_near[0]], nearest.too_near[1])
            similarities = [*cosines, *nearest.similarities]
            mined.append(MinedRow(replace(row, rejected=rejected), positives[place].item(), similarities, too_near))
    return Mined(mined, len(rows) - len(mined), left_out)
