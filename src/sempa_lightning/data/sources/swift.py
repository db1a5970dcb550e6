"""Preference data in ms-swift's format, which SemPA's own code writes."""

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.conversation import conversation, last_user_turn, split_reply
from sempa_lightning.data.sources.table_rows import TableRows
from sempa_lightning.data.table import Record, cell, texts


class SwiftPreferences(TableRows):
    """Rows from `messages`, whose last turn is chosen, and `rejected_response` or `rejected_messages`.

    The anchor is the last turn of the user; it holds the whole instruction, so it goes with the prompt
    `verbatim`. Earlier turns and a system turn are not read.

    Args:
        table: The records.
    """

    def _row(self, record: Record, where: str) -> Row:
        messages = conversation(cell(record, "messages", where), f"{where}: 'messages'")
        before, chosen = split_reply(messages, f"{where}: 'messages'")
        anchor = last_user_turn(before, f"{where}: 'messages'")
        return Row(anchor, (chosen,), _rejected(record, where))


def _rejected(record: Record, where: str) -> tuple[str, ...]:
    if (messages := record.get("rejected_messages")) is not None:
        where = f"{where}: 'rejected_messages'"
        return (split_reply(conversation(messages, where), where)[1],)
    return texts(record, "rejected_response", where)
