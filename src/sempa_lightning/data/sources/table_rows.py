"""What all sources share that make one row of one record."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from sempa_lightning.data.rows import Row
from sempa_lightning.data.table import Record, Table


class TableRows(ABC):
    """The rows of a table, one for each record.

    Args:
        table: The records.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    @property
    def missing(self) -> str | None:
        """Why the table cannot be read here, or None."""
        return self._table.missing

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows.

        Raises:
            UserError: If the table cannot be read or a record does not follow the format.
        """
        for number, record in enumerate(self._table, 1):
            yield self._row(record, f"{self._table.name}, record {number}")

    @abstractmethod
    def _row(self, record: Record, where: str) -> Row:
        """Make the row of one record; `where` names it.

        Raises:
            UserError: If the record does not follow the format.
        """
