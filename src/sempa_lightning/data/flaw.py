"""What makes a text unusable: the one rule of all readers."""

import re
import unicodedata

from sempa_lightning.errors import UserError

MAX_CHARACTERS = 1_000_000
"""Characters of a text at most."""

# NUL, which ends a text in other programs, and halves of surrogate pairs, which JSON can hold and UTF-8 cannot.
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")
# All control characters but tab and line breaks.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Characters that fonts draw as nothing although Unicode counts them as letters, marks or symbols.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def unreadable(text: str) -> str | None:
    """Say why a text cannot be used at all, None if it can.

    It holds NUL or half of a surrogate pair, or more than `MAX_CHARACTERS` characters.
    """
    if len(text) > MAX_CHARACTERS:
        return f"has more than {MAX_CHARACTERS:,} characters"
    if found := _NO_TEXT.search(text):
        return "has NUL characters" if found[0] == "\0" else "has half of a surrogate pair"
    return None


def flaw(text: str) -> str | None:
    """Say why a text, white space at its ends stripped, is unusable for training, None if it is usable.

    It is `unreadable`, holds other control characters than tabs and line breaks, is the word `nan`, or has no visible
    character.
    """
    if not text:
        return "empty"
    if text.lower() == "nan":
        return "is nan"
    if reason := unreadable(text):
        return reason
    if _CONTROL.search(text):
        return "has control characters"
    return None if any(map(_visible, text)) else "empty"


def check_readable(text: str, where: str) -> str:
    """Return a text of an evaluation set or a corpus, whose rows must not be left out silently.

    Raises:
        UserError: If it is `unreadable`; `where` names file, place and column.
    """
    if reason := unreadable(text):
        raise UserError(f"{where} {reason}. Mend the text or remove it.")
    return text


def composed(text: str) -> str:
    """Return the text in Unicode normalisation form C, in which equal characters have equal code points."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _visible(character: str) -> bool:
    # Letters of private use and of later versions of Unicode may be drawn.
    category = unicodedata.category(character)
    return category in ("Co", "Cn") or not (category[0] in "CZ" or _BLANK.match(character))
