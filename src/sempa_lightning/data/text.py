"""Plain text from files, with evaluation sentences taken out."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sempa_lightning.assets import local_path
from sempa_lightning.data.flaw import composed
from sempa_lightning.data.lines import read_lines
from sempa_lightning.errors import UserError

_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_GRAM = 5


class OverlapFilter:
    """Finds paragraphs that hold a sentence of an evaluation set.

    Case, punctuation and spacing are ignored. A sentence of five words or more is found anywhere in a paragraph; a
    shorter one only where it stands as a sentence of its own.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self._whole: set[tuple[str, ...]] = set()
        self._by_first_words: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        for sentence in sentences:
            words = words_of(sentence)
            if words and words not in self._whole:
                self._whole.add(words)
                if len(words) >= _GRAM:
                    self._by_first_words[words[:_GRAM]].append(words)

    def __contains__(self, paragraph: str) -> bool:
        """Whether the paragraph holds one of the sentences."""
        if any(words_of(sentence) in self._whole for sentence in split_sentences(paragraph)):
            return True
        words = words_of(paragraph)
        for start in range(len(words) - _GRAM + 1):
            for sentence in self._by_first_words.get(words[start : start + _GRAM], ()):
                if words[start : start + len(sentence)] == sentence:
                    return True
        return False


def split_sentences(paragraph: str) -> list[str]:
    """Cut after each full stop, question mark or exclamation mark that white space follows."""
    return _SENTENCE_END.split(paragraph)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case and Unicode normalisation form C, without punctuation and spacing."""
    return tuple(_WORD.findall(composed(text.lower())))


class TextFiles:
    """Documents of plain-text files (`.txt`, `.txt.xz`, `.txt.gz`): blocks parted by an empty line.

    Args:
        paths: Files to read, in order.
        exclude: Sources of sentences; a paragraph (line) that holds one of them is left out.

    Attributes:
        removed: Paragraphs left out by the last full pass.

    Raises:
        UserError: If a file does not exist or is not UTF-8 text.
    """

    def __init__(self, paths: Sequence[str], exclude: Sequence[Iterable[str]] = ()) -> None:
        self.paths = [local_path(path) for path in paths]
        self._exclude = exclude
        self.removed = 0
        for path in self.paths:
            if not path.is_file():
                raise UserError(f"no text file {path}; give data.texts.paths or set SEMPA_DATA_DIR")

    def __iter__(self) -> Iterator[str]:
        """Yield one document after the other."""
        overlap = OverlapFilter(sentence for source in self._exclude for sentence in source)
        self.removed = 0
        for path in self.paths:
            for document in _documents(path):
                kept = [paragraph for paragraph in document if paragraph not in overlap]
                self.removed += len(document) - len(kept)
                if kept:
                    yield "\n".join(kept)


def _documents(path: Path) -> Iterator[list[str]]:
    """Yield the paragraphs of each document."""
    paragraphs: list[str] = []
    for line in read_lines(path):
        if stripped := line.strip():
            paragraphs.append(stripped)
        elif paragraphs:
            yield paragraphs
            paragraphs = []
    if paragraphs:
        yield paragraphs
