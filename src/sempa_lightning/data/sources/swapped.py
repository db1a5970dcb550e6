"""A control: the wrong answer is the right one."""

from collections.abc import Iterator
from dataclasses import replace

from sempa_lightning.data.rows import Row, RowSource


class Swapped:
    """Rows in which the best chosen and the first rejected change places.

    Training on them should make embeddings worse; if it does not, what helps is not the preference.

    Args:
        source: The rows as they are.
    """

    def __init__(self, source: RowSource) -> None:
        self._source = source

    @property
    def missing(self) -> str | None:
        """Why the source cannot be read here, or None."""
        return self._source.missing

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows; one that lacks chosen or rejected stays as it is, for cleaning to count it."""
        for row in self._source:
            if row.chosen and row.rejected:
                (best, *chosen), (first, *rejected) = row.chosen, row.rejected
                yield replace(row, chosen=(first, *chosen), rejected=(best, *rejected))
            else:
                yield row
