"""Sentences that are independent of each other, from benchmarks of sentence pairs."""

from collections.abc import Iterator

from sempa_lightning.data.scored_pairs import PairSource


class FirstSentences:
    """The first sentence of each pair: its partner may say the same, and would count as another sentence.

    Args:
        pairs: Where they come from.
    """

    def __init__(self, pairs: PairSource) -> None:
        self._pairs = pairs

    @property
    def missing(self) -> str | None:
        """Why the pairs cannot be read, or None."""
        return self._pairs.missing

    def __iter__(self) -> Iterator[str]:
        """Yield the sentences in the order of the pairs."""
        for pair in self._pairs:
            yield pair.sentence1
