"""One source cut into train, dev and test by its anchors."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from sempa_lightning.data.cache import content_hash
from sempa_lightning.data.flaw import composed
from sempa_lightning.data.rows import Row, RowSource
from sempa_lightning.errors import UserError

_HASHES = 16**8


class AnchorSplit:
    """The rows of one part; a hash of the anchor says which part a row belongs to.

    All rows of an anchor are in one part. Rows that are added, left out or moved change the part of no other.

    Args:
        source: All rows. Those with a flaw (see `Row`) are in the train part, where they are counted.
        split: The part to yield.
        dev: Expected fraction of the anchors in the dev part.
        test: Expected fraction of the anchors in the test part; the rest is for training.

    Raises:
        UserError: If the fractions leave nothing for training, or the part is none.
    """

    def __init__(self, source: RowSource, split: Literal["train", "dev", "test"], dev: float, test: float) -> None:
        if min(dev, test) < 0 or dev + test >= 1:
            raise UserError(
                f"data.train.dev={dev}, data.train.test={test}: expected fractions from 0 on that add up to below 1"
            )
        if split != "train" and not {"dev": dev, "test": test}[split]:
            raise UserError(
                f"data.train.{split}={dev if split == 'dev' else test:g}: no row is held out, but the {split} part is"
                f" asked for. Set data.train.{split} above 0, such as 0.01."
            )
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
        anchors: set[int] = set()  # hashes, which take a fraction of the memory
        flaws: Counter[str] = Counter()
        for row in self._source:
            read += 1
            if row.flaw:
                flaws[row.flaw] += 1
            else:
                anchors.add(hash(row.anchor.strip()))
            if ("train" if row.flaw else self._part(row.anchor.strip())) == self._split:
                found += 1
                yield row
        if not found:
            unusable = "".join(f", {number} dropped: {flaw}" for flaw, number in flaws.items())
            raise UserError(
                f"data.train.dev={self._dev:g}, data.train.test={self._test:g}: none of {read} rows with"
                f" {len(anchors)} distinct anchors falls into the {self._split} part{unusable}. Give rows with more"
                " anchors or other fractions."
            )

    def _part(self, anchor: str) -> str:
        place = int(content_hash(composed(anchor))[:8], 16) / _HASHES
        if place < self._dev:
            return "dev"
        return "test" if place < self._dev + self._test else "train"
