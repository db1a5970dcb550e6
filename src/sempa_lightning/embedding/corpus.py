"""A corpus of any size: texts in one column of a table, of which a few are in memory at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sempa_lightning.data.table import Table, readable_cell


class Survey(NamedTuple):
    """What reading a corpus once tells.

    Attributes:
        rows: How many texts it has.
        fingerprint: Hash of the texts in their order: equal for equal corpora, in whatever file.
    """

    rows: int
    fingerprint: str


@dataclass(frozen=True)
class Corpus:
    """The texts of a table, read one after the other.

    Attributes:
        table: The records.
        column: Where the texts stand.
    """

    table: Table
    column: str

    def __iter__(self) -> Iterator[str]:
        """Yield the texts in their order.

        Raises:
            UserError: If the table cannot be read, or a cell holds no text or an unreadable one.
        """
        for number, record in enumerate(self.table, 1):
            yield readable_cell(record, self.column, f"{self.table.name}, record {number}")

    def survey(self) -> Survey:
        """Read all of it once: what is wrong in the last row is told before the first one is embedded.

        Raises:
            UserError: As `__iter__`.
        """
        digest, rows = hashlib.sha256(), 0
        for rows, text in enumerate(self, 1):  # noqa: B007 (read after the loop)
            encoded = text.encode()
            digest.update(b"%d:" % len(encoded))
            digest.update(encoded)
        return Survey(rows, digest.hexdigest()[:32])
