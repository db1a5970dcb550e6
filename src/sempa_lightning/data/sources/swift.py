"""Preference data in ms-swift's format, which SemPA's own code writes."""

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.conversation import Turn, conversation, question, split_reply, without_system
from sempa_lightning.data.sources.table_rows import TableRows
from sempa_lightning.data.table import Record, cell, is_missing, texts
from sempa_lightning.errors import UserError


class SwiftPreferences(TableRows):
    """Rows from `messages`, whose last turn is chosen, and `rejected_response` or `rejected_messages`.

    The anchor is the turn of the user; it holds the whole instruction, so it goes with the prompt `verbatim`. A system
    turn is not read. A dialogue of several turns has a flaw (see `question`).

    Args:
        table: The records.
    """

    def _row(self, record: Record, where: str) -> Row:
        messages = cell(record, "messages", where)
        if is_missing(messages):
            return Row("", (), ())
        before, chosen = split_reply(conversation(messages, f"{where}: 'messages'"), f"{where}: 'messages'")
        asked = question(before, f"{where}: 'messages'")
        return Row(asked.text, (chosen,), _rejected(record, before, where), asked.flaw)


def _rejected(record: Record, before: list[Turn], where: str) -> tuple[str, ...]:
    """The rejected replies; a whole conversation must have the same turns before its last one, system turns aside."""
    messages = record.get("rejected_messages")
    if is_missing(messages):
        only_messages = "rejected_messages" in record and "rejected_response" not in record
        return ("",) if only_messages else texts(record, "rejected_response", where)
    column = f"{where}: 'rejected_messages'"
    other, rejected = split_reply(conversation(messages, column), column)
    if other and without_system(other) != without_system(before):
        raise UserError(f"{where}: 'messages' and 'rejected_messages' differ before their last turn")
    return (rejected,)
