"""The text row that all preference data is brought to."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from sempa_lightning.data.cache import content_hash


@dataclass(frozen=True)
class Row:
    """An anchor with its candidates, as text.

    Attributes:
        anchor: The sentence to paraphrase.
        chosen: Paraphrases, best first; at least one once the row is cleaned.
        rejected: Other completions, in no order; at least one once the row is cleaned, unless none is needed.
        flaw: Why the source cannot give the record as a row, a reason that is counted; None if it can.
    """

    anchor: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    flaw: str | None = field(default=None, repr=False)

    @property
    def texts(self) -> tuple[str, ...]:
        """Anchor, chosen and rejected."""
        return (self.anchor, *self.chosen, *self.rejected)

    @property
    def id(self) -> str:
        """Content hash: the same text has the same id in any file, order or run."""
        return content_hash(self.anchor, *self.chosen, "\0", *self.rejected)[:16]


@runtime_checkable
class RowSource(Protocol):
    """Anything that yields raw rows; cleaning comes after it."""

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in their order.

        Raises:
            UserError: If the file or a column is missing, or a record cannot be read.
        """

    @property
    def missing(self) -> str | None:
        """Why the source cannot be read here, or None when it can be or only trying will tell."""
