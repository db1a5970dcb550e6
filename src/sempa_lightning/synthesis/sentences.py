"""The sentences that a language model is to rewrite."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from sempa_lightning.data.cache import content_hash
from sempa_lightning.data.flaw import flaw
from sempa_lightning.data.table import Table, named_table, text_cell
from sempa_lightning.errors import UserError


@dataclass(frozen=True)
class Sentences:
    """Distinct sentences, in the order in which they first came.

    Attributes:
        texts: The sentences.
        source: File path or name on the Hub.
        read: Records read.
        left_out: How many records gave no sentence, by reason.
    """

    texts: list[str]
    source: str
    read: int
    left_out: dict[str, int]

    @property
    def fingerprint(self) -> str:
        """Hash of the sentences."""
        return content_hash(*self.texts)

    def as_dict(self) -> dict[str, Any]:
        """Where they come from and what became of the records, for the manifest."""
        return {**asdict(self), "texts": len(self.texts), "fingerprint": self.fingerprint}


def sentence_table(source: object, split: str, revision: str | None) -> Table:
    """Find the table that holds the sentences.

    Args:
        source: A file (see `FileTable`); what neither is there nor looks like a file is a name on the Hub.
        split: Which split of a data set of the Hub.
        revision: Its commit, tag or branch.

    Raises:
        UserError: If no source is named, or it is a file that is not there.
    """
    if source is None:
        raise UserError("which sentences? sentences=<.txt, .jsonl, .csv, .tsv or .parquet file, or a Hub data set>")
    return named_table("sentences", source, split, revision)


def read_sentences(table: Table, column: str, limit: int | None) -> Sentences:
    """Read the distinct sentences of a column, white space at both ends stripped.

    Texts that training would leave out (see `flaw`) and repeated ones are left out and counted.

    Args:
        table: The records.
        column: The column.
        limit: How many sentences at most, from the first; all when null.

    Raises:
        UserError: If the table cannot be read, has no such column, holds something else than text there, or no
            sentence.
    """
    read, left_out = 0, Counter[str]()

    def distinct() -> Iterator[str]:
        nonlocal read
        seen = set[str]()
        for read, record in enumerate(table, 1):
            where = f"{table.name}, record {read}"
            if column not in record:
                known = ", ".join(map(repr, record))
                raise UserError(f"{where} has no column {column!r}; it has {known}: set column=<one>")
            text = text_cell(record, column, where).strip()
            reason = flaw(text) or ("repeated" if text in seen else None)
            if reason is None:
                seen.add(text)
                yield text
            else:
                left_out[reason] += 1

    texts = list(islice(distinct(), limit))
    if not texts:
        raise UserError(f"{table.name} holds no sentence in column {column!r}: {read} records, {dict(left_out)}")
    return Sentences(texts, table.name, read, dict(left_out))
