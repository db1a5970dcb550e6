"""What a language model wrote for a sentence."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sempa_lightning.checksums import checksum
from sempa_lightning.errors import UserError
from sempa_lightning.files import write_text

_KEY = "checksum"


@dataclass(frozen=True)
class Draft:
    """One output.

    Attributes:
        anchor: The sentence.
        prompt: Name of the prompt that asked for it.
        number: Which of the outputs for this prompt, from 0.
        text: What was written; nothing where the prompt left no room for it.
        ended: Whether the model has ended it by itself.
        cosine: Of the embeddings of anchor and text, -1 to 1.
        reason: Why it is rejected, None as long as it is not.
    """

    anchor: str
    prompt: str
    number: int
    text: str
    ended: bool
    cosine: float
    reason: str | None = None


def write_drafts(path: Path, drafts: Iterable[Draft]) -> None:
    """Write a line with the checksum of all others, then one JSON object a line; all of them or none."""
    content = "".join(json_line(asdict(draft)) for draft in drafts)
    write_text(path, json_line({_KEY: checksum(path.name, content.encode())}) + content)


def read_drafts(path: Path) -> list[Draft]:
    """Read what `write_drafts` has written; files of earlier versions have no checksum.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        content = path.read_text(encoding="utf-8")
        first, _, rest = content.partition("\n")
        if _KEY in (said := json.loads(first)):
            content = rest
            if said[_KEY] != checksum(path.name, content.encode()):
                raise ValueError("checksum wrong")
        *lines, unfinished = content.split("\n")
        if unfinished:
            raise ValueError("cut off")
        return [Draft(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}). Remove it and resume the synthesis.") from error


def json_line(content: object) -> str:
    """One line of a JSON-lines file."""
    return json.dumps(content, ensure_ascii=False) + "\n"
