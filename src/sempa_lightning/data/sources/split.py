"""One source cut into train, dev and test by its anchors."""

from collections.abc import Iterator
from typing import Literal

from sempa_lightning.data.cache import content_hash
from sempa_lightning.data.rows import Row, RowSource
from sempa_lightning.errors import UserError

_HASHES = 16**8


class AnchorSplit:
    """The rows of one part; a hash of the anchor says which part a row belongs to.

    All rows of an anchor are in one part. Rows that are added, left out or moved change the part of no other.

    Args:
        source: All rows.
        split: The part to yield.
        dev: Expected fraction of the anchors in the dev part.
        test: Expected fraction of the anchors in the test part; the rest is for training.

    Raises:
        UserError: If the fractions leave nothing for training.
    """

    def __init__(self, source: RowSource, split: Literal["train", "dev", "test"], dev: float, test: float) -> None:
        if min(dev, test) < 0 or dev + test >= 1:
            raise UserError(f"data fractions dev={dev} and test={test} must not be negative and add up to below 1")
        self._source = source
        self._split = split
        self._dev = dev
        self._test = test

    @property
    def missing(self) -> str | None:
        """Why the source cannot be read here, or None."""
        return self._source.missing

    def __iter__(self) -> Iterator[Row]:
        """Yield the part's rows in the order of the source.

        Raises:
            UserError: If no row falls into the part.
        """
        read = found = 0
        for row in self._source:
            read += 1
            if self._part(row.anchor.strip()) == self._split:
                found += 1
                yield row
        if not found:
            raise UserError(
                f"none of {read} rows falls into the {self._split} part (fractions dev={self._dev},"
                f" test={self._test}); give more rows or other fractions"
            )

    def _part(self, anchor: str) -> str:
        place = int(content_hash(anchor)[:8], 16) / _HASHES
        if place < self._dev:
            return "dev"
        return "test" if place < self._dev + self._test else "train"
