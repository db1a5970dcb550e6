"""Conversations as the chat data sets write them: lists of `{"role": …, "content": …}`."""

from typing import Any, NamedTuple

from sempa_lightning.errors import UserError


class Turn(NamedTuple):
    """What one side says."""

    role: str
    content: str


def conversation(value: Any, where: str) -> list[Turn]:  # noqa: ANN401 (any cell)
    """Read the turns; `where` names the record and the column.

    Raises:
        UserError: If this is no list of messages with a role and a text.
    """
    messages = value if isinstance(value, list) else [value]
    if not all(_is_message(message) for message in messages):
        raise UserError(f'{where} is no list of {{"role": …, "content": <text>}} messages')
    return [Turn(message["role"], message["content"]) for message in messages]


def split_reply(turns: list[Turn], where: str) -> tuple[list[Turn], str]:
    """Part the assistant's last reply from what came before it.

    Raises:
        UserError: If the last turn is not the assistant's.
    """
    if not turns or turns[-1].role != "assistant":
        raise UserError(f"{where} does not end with a turn of the assistant")
    return turns[:-1], turns[-1].content


def last_user_turn(turns: list[Turn], where: str) -> str:
    """Find what the user said last.

    Raises:
        UserError: If the user says nothing.
    """
    for turn in reversed(turns):
        if turn.role == "user":
            return turn.content
    raise UserError(f"{where} has no turn of the user")


def _is_message(message: object) -> bool:
    return (
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
    )
