"""What a language model wrote for a sentence."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sempa_lightning.files import replacing


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
    """Write one JSON object a line, all of them or none."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        lines.writelines(json_line(asdict(draft)) for draft in drafts)


def read_drafts(path: Path) -> Iterator[Draft]:
    """Read what `write_drafts` has written."""
    with path.open(encoding="utf-8") as lines:
        yield from (Draft(**json.loads(line)) for line in lines)


def json_line(content: object) -> str:
    """One line of a JSON-lines file."""
    return json.dumps(content, ensure_ascii=False) + "\n"
