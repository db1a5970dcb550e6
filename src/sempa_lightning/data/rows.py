"""The text row that all preference data is brought to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sempa_lightning.data.cache import content_hash


@dataclass(frozen=True)
class Row:
    """An anchor with its candidates, as text.

    Attributes:
        anchor: The sentence to paraphrase.
        chosen: Paraphrases, best first; at least one.
        rejected: Other completions, in no order; at least one.
    """

    anchor: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]

    @property
    def id(self) -> str:
        """Content hash: the same text has the same id in any file, order or run."""
        return content_hash(self.anchor, *self.chosen, "\0", *self.rejected)[:16]


class RowSource(Protocol):
    """Anything that yields raw rows; cleaning comes after it."""

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in their order.

        Raises:
            UserError: If the file or a column is missing, or a record cannot be read.
        """
