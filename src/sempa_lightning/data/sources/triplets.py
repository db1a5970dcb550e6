"""Tables with a column for the anchor, one for what is chosen and one for what is rejected."""

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.table_rows import TableRows
from sempa_lightning.data.table import Record, Table, text_cell, texts


class Triplets(TableRows):
    """Rows from named columns: SimCSE's csv, NLI triplets, the demonstration set.

    Args:
        table: The records.
        anchor: Column of the anchor, a text.
        chosen: Column of what is chosen: a text, or a list of texts with the best first.
        rejected: Column of what is rejected: a text or a list of texts; null if there is none.
    """

    def __init__(self, table: Table, *, anchor: str, chosen: str, rejected: str | None) -> None:
        super().__init__(table)
        self._anchor = anchor
        self._chosen = chosen
        self._rejected = rejected

    def _row(self, record: Record, where: str) -> Row:
        anchor = text_cell(record, self._anchor, where)
        rejected = () if self._rejected is None else texts(record, self._rejected, where)
        return Row(anchor, texts(record, self._chosen, where), rejected)
