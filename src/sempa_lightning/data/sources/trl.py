"""Preference data in TRL's formats."""

import re
from os.path import commonprefix
from typing import Any

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.conversation import Question, Turn, conversation, question, split_reply
from sempa_lightning.data.sources.table_rows import TableRows
from sempa_lightning.data.table import Record, cell, is_missing, text_cell
from sempa_lightning.errors import UserError

_LAST_WORD = re.compile(r"(\A|\s+)\S*\Z")


class TrlPreferences(TableRows):
    """Rows from `prompt`, `chosen` and `rejected`, as TRL's DPO trainer reads them.

    Plain text or conversations; `prompt` may be absent, and is then what `chosen` and `rejected` have in
    common at their beginning. The anchor is the plain prompt, or the turn of the user; it holds the
    whole instruction, so it goes with the prompt `verbatim`. A system turn is not read. A dialogue of several turns has
    a flaw (see `question`).

    Args:
        table: The records.
    """

    def _row(self, record: Record, where: str) -> Row:
        for column in ("chosen", "rejected"):
            value = cell(record, column, where)
            if not (isinstance(value, str | list | dict) or is_missing(value)):
                raise UserError(f"{where}: {column!r} is {type(value).__name__}, neither text nor a list of messages")
        if any(isinstance(record[column], list | dict) for column in ("chosen", "rejected")):
            return _conversational(record, where)
        return _plain(record, text_cell(record, "chosen", where), text_cell(record, "rejected", where), where)


def _plain(record: Record, chosen: str, rejected: str, where: str) -> Row:
    if "prompt" in record:
        asked = _asked(record["prompt"], where)
    else:
        # TRL cuts between characters; here a word that both begin alike belongs to the completions whole.
        common = commonprefix([chosen, rejected])  # noqa: RUF071 (characters are meant)
        asked = Question(_LAST_WORD.sub("", common), None)
        chosen, rejected = chosen[len(asked.text) :], rejected[len(asked.text) :]
    return Row(asked.text, (chosen,), (rejected,), asked.flaw)


def _conversational(record: Record, where: str) -> Row:
    replies = {
        column: _reply(record[column], f"{where}: {column!r}")
        for column in ("chosen", "rejected")
        if not is_missing(record[column])
    }
    befores = [before for before, _ in replies.values()]
    if befores[0] != befores[-1]:
        raise UserError(f"{where}: 'chosen' and 'rejected' differ before their last turn")
    if befores[0]:
        asked = question(befores[0], f"{where}: {next(iter(replies))!r}")
    else:
        asked = _asked(cell(record, "prompt", where), where)
    chosen, rejected = (replies[column][1] if column in replies else "" for column in ("chosen", "rejected"))
    return Row(asked.text, (chosen,), (rejected,), asked.flaw)


def _reply(value: Any, where: str) -> tuple[list[Turn], str]:  # noqa: ANN401 (any cell)
    return split_reply(conversation(value, where), where)


def _asked(prompt: Any, where: str) -> Question:  # noqa: ANN401 (any cell)
    if is_missing(prompt):
        return Question("", None)
    if isinstance(prompt, str):
        return Question(prompt, None)
    where = f"{where}: 'prompt'"
    return question(conversation(prompt, where), where)
