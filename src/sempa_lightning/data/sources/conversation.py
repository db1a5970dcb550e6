"""Conversations as the chat data sets write them: lists of `{"role": …, "content": …}`."""

from typing import Any, NamedTuple

from sempa_lightning.errors import UserError

SEVERAL_TURNS = "dialogue with several turns (a prompt holds one)"
"""Why a row of a dialogue is dropped: its context would be lost."""


class Turn(NamedTuple):
    """What one side says."""

    role: str
    content: str


def conversation(value: Any, where: str) -> list[Turn]:  # noqa: ANN401 (any cell)
    """Read the turns; `where` names the record and the column. A missing text is an empty one.

    Raises:
        UserError: If this is no list of messages with a role and a text.
    """
    messages = value if isinstance(value, list) else [value]
    if not all(_is_message(message) for message in messages):
        raise UserError(f'{where} is no list of {{"role": …, "content": <text>}} messages')
    return [Turn(message["role"], message["content"] or "") for message in messages]


def split_reply(turns: list[Turn], where: str) -> tuple[list[Turn], str]:
    """Part the assistant's last reply from what came before it.

    Raises:
        UserError: If the last turn is not the assistant's.
    """
    if not turns or turns[-1].role != "assistant":
        raise UserError(f"{where} does not end with a turn of the assistant")
    return turns[:-1], turns[-1].content


class Question(NamedTuple):
    """What a reply answers.

    Attributes:
        text: The last turn of the user.
        flaw: Why it is not the whole question, None if it is.
    """

    text: str
    flaw: str | None


def question(turns: list[Turn], where: str) -> Question:
    """Find what the user said last. It is not the whole question where the dialogue has earlier turns.

    A system turn is none of them: `prompt.system` takes its place.

    Raises:
        UserError: If the user says nothing.
    """
    said = without_system(turns)
    asked = [turn for turn in said if turn.role == "user"]
    if not asked:
        raise UserError(f"{where} has no turn of the user")
    return Question(asked[-1].content, SEVERAL_TURNS if len(said) > 1 else None)


def without_system(turns: list[Turn]) -> list[Turn]:
    """Return what user and assistant say."""
    return [turn for turn in turns if turn.role != "system"]


def _is_message(message: object) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and "content" in message
        and isinstance(message["content"], str | None)
    )
