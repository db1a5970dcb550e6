"""A corpus of any size: texts in one column of a table, of which a few are in memory at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sempa_lightning.data.table import Table, cell
from sempa_lightning.errors import UserError


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
            UserError: If the table cannot be read, or a cell holds no text.
        """
        for number, record in enumerate(self.table, 1):
            where = f"{self.table.name}, record {number}"
            text = cell(record, self.column, where)
            if not isinstance(text, str):
                raise UserError(f"{where}: {self.column!r} is {type(text).__name__}, not text")
            yield text

    def survey(self) -> Survey:
        """Read all of it once: what is wrong in the last row is told before the first one is embedded.

        Raises:
            UserError: If the table cannot be read, a cell holds no text, or a text cannot be written as UTF-8.
        """
        digest, rows = hashlib.sha256(), 0
        for rows, text in enumerate(self, 1):
            try:
                encoded = text.encode()
            except UnicodeEncodeError as error:
                where = f"{self.table.name}, record {rows}"
                raise UserError(f"{where}: {self.column!r} holds half of a surrogate pair, which is no text") from error
            digest.update(b"%d:" % len(encoded))
            digest.update(encoded)
        return Survey(rows, digest.hexdigest()[:32])
