"""Preference data in TRL's formats."""

import re
from os.path import commonprefix
from typing import Any

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.conversation import Turn, conversation, last_user_turn, split_reply
from sempa_lightning.data.sources.table_rows import TableRows
from sempa_lightning.data.table import Record, cell
from sempa_lightning.errors import UserError

_LAST_WORD = re.compile(r"(\A|\s+)\S*\Z")


class TrlPreferences(TableRows):
    """Rows from `prompt`, `chosen` and `rejected`, as TRL's DPO trainer reads them.

    Plain text or conversations; `prompt` may be absent, and is then what `chosen` and `rejected` have in
    common at their beginning. The anchor is the plain prompt, or the last turn of the user; it holds the
    whole instruction, so it goes with the prompt `verbatim`. Earlier turns and a system turn are not read.

    Args:
        table: The records.
    """

    def _row(self, record: Record, where: str) -> Row:
        chosen, rejected = cell(record, "chosen", where), cell(record, "rejected", where)
        if isinstance(chosen, str) and isinstance(rejected, str):
            return _plain(record, chosen, rejected, where)
        return _conversational(record, where)


def _plain(record: Record, chosen: str, rejected: str, where: str) -> Row:
    prompt = record.get("prompt")
    if prompt is None:
        # TRL cuts between characters; here a word that both begin alike belongs to the completions whole.
        common = commonprefix([chosen, rejected])  # noqa: RUF071 (characters are meant)
        prompt = _LAST_WORD.sub("", common)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    return Row(_anchor(prompt, where), (chosen,), (rejected,))


def _conversational(record: Record, where: str) -> Row:
    before, chosen = _reply(record, "chosen", where)
    other, rejected = _reply(record, "rejected", where)
    if before != other:
        raise UserError(f"{where}: 'chosen' and 'rejected' differ before their last turn")
    if before:
        anchor = last_user_turn(before, f"{where}: 'chosen'")
    else:
        anchor = _anchor(cell(record, "prompt", where), where)
    return Row(anchor, (chosen,), (rejected,))


def _reply(record: Record, column: str, where: str) -> tuple[list[Turn], str]:
    where = f"{where}: {column!r}"
    return split_reply(conversation(record[column], where), where)


def _anchor(prompt: Any, where: str) -> str:  # noqa: ANN401 (any cell)
    if isinstance(prompt, str):
        return prompt
    where = f"{where}: 'prompt'"
    return last_user_turn(conversation(prompt, where), where)
