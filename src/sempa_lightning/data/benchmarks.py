"""Language-model benchmarks as they are found in files, read into documents."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sempa_lightning.assets import local_path
from sempa_lightning.data.lines import read_lines, read_objects
from sempa_lightning.data.table import cell, readable_cell
from sempa_lightning.errors import UserError

_ENDINGS = 4
_NEXT_SENTENCE = re.compile(r"(?<=[.!?\"'] )([a-z][^.!?]*)$")
_INSTRUCTION = re.compile(
    r"Please choose the correct answer to the question: (.*)\n\n(Answer1: .*)\n\nAnswer format: [a-z0-9/]+", re.DOTALL
)
_TITLE = re.compile(r" = [^=].* = ")


@runtime_checkable
class Documents(Protocol):
    """Anything that yields the documents of a benchmark."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the documents in their published order."""

    @property
    def missing(self) -> str | None:
        """Why the documents cannot be read here, or None when they can."""


class _File:
    """One local file."""

    def __init__(self, path: str) -> None:
        self.path = local_path(path)

    @property
    def missing(self) -> str | None:
        """Why the file cannot be read, or None when it can."""
        return None if self.path.is_file() else f"no file {self.path}"


class HellaSwagText(_File):
    """HellaSwag in six lines for each document: `activity: context`, label, four endings.

    The text is cleaned as lm-evaluation-harness cleans it. Where the endings go on within a sentence, the file has that
    sentence's beginning in lower case, and the harness puts it into upper case; so does this.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield `query`, `choices` and `label`, what the harness makes of a document.

        Raises:
            UserError: If the file ends within a document or a label is none of 0 to 3.
        """
        stripped = _lines(self.path)
        for number, query in enumerate(stripped):
            label, *choices = [*islice(stripped, 1 + _ENDINGS), ""][: 1 + _ENDINGS]
            if label not in map(str, range(_ENDINGS)) or not all(choices) or len(choices) < _ENDINGS:
                first = number * (2 + _ENDINGS) + 1
                raise UserError(f"{self.path}, line {first}: a document has a text, a label 0-3 and four endings")
            begun = _NEXT_SENTENCE.sub(lambda match: match[0].capitalize(), query)
            yield {"query": _clean(begun), "choices": [_clean(choice) for choice in choices], "label": int(label)}


class InstructionChoices(_File):
    """Multiple-choice questions whose choices stand inside an instruction: `Answer1: … Answer2: …`.

    Each document gets the columns that ARC has on the Hub.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield `question`, `choices` (`text` and `label`) and `answerKey`.

        Raises:
            UserError: If the file is no JSON, an instruction is not of that form or the answer is none of its choices.
        """
        for number, record in enumerate(read_objects(self.path), 1):
            where = f"{self.path}, record {number}"
            match = _INSTRUCTION.fullmatch(readable_cell(record, "instruction", where))
            texts = re.split(r"(?:^| )Answer\d+: ", match[2])[1:] if match else []
            labels = [f"answer{place}" for place in range(1, len(texts) + 1)]
            if not match or cell(record, "answer", where) not in labels:
                raise UserError(f"{where}: no question with `Answer1: …` and one of them right")
            yield {
                "question": match[1],
                "choices": {"text": texts, "label": labels},
                "answerKey": record["answer"],
            }


class WikiTextArticles(_File):
    """Articles of a WikiText file: what stands between two titles (` = Title = `), word for word as published."""

    def __iter__(self) -> Iterator[str]:
        """Yield an article after the other, its title included."""
        article: list[str] = []
        for line in _lines(self.path):
            if _TITLE.fullmatch(line) and article:
                yield "\n".join(article)
                article = []
            if line.strip():
                article.append(line.strip())
        if article:
            yield "\n".join(article)


def _lines(path: Path) -> Iterator[str]:
    return (line.rstrip("\n") for line in read_lines(path))


def _clean(text: str) -> str:
    """What lm-evaluation-harness does to HellaSwag's texts: brackets are left over from WikiHow."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
