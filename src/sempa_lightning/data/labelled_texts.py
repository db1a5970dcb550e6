"""Texts, or pairs of texts, with a class label, read from files as they are published."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sempa_lightning.assets import local_path
from sempa_lightning.data.flaw import check_readable
from sempa_lightning.data.lines import read_lines
from sempa_lightning.data.missing import why_missing
from sempa_lightning.data.table import Table, cell, is_missing
from sempa_lightning.errors import UserError


class LabelledText(NamedTuple):
    """One text, or the two of a pair, and the class it belongs to."""

    texts: tuple[str, ...]
    label: str


@runtime_checkable
class LabelledSource(Protocol):
    """Anything that yields labelled texts."""

    @property
    def name(self) -> str:
        """What error messages call it."""

    def __iter__(self) -> Iterator[LabelledText]:
        """Yield the texts in their published order.

        Raises:
            UserError: If a text or a label is missing.
        """

    @property
    def missing(self) -> str | None:
        """Why the source cannot be read here, or None when it can."""


def read_labelled(source: LabelledSource, texts: int = 1) -> list[LabelledText]:
    """Read all texts of a source.

    Args:
        source: Where they are.
        texts: How many belong together: 1, or 2 for pairs.

    Raises:
        UserError: If there are none, if another number of texts belongs together, or all have the same label.
    """
    found = list(source)
    if not found:
        raise UserError(f"{source.name} holds no text")
    if (given := len(found[0].texts)) != texts:
        raise UserError(f"{source.name}: {given} text(s) to a label, but the task needs {texts}")
    if len(labels := {example.label for example in found}) == 1:
        raise UserError(f"{source.name}: all labels are {labels.pop()!r}, so that there is nothing to tell apart")
    return found


class _LinesFile:
    """A source that is one local file of lines."""

    def __init__(self, path: str, encoding: str = "utf-8-sig") -> None:
        self.name = path
        self._path = local_path(path)
        self._encoding = encoding

    @property
    def missing(self) -> str | None:
        """Why the file cannot be read, or None when it can."""
        return None if self._path.is_file() else f"no file {self._path}"

    def lines(self) -> list[str]:
        """All lines, without their ends."""
        lines = read_lines(self._path, self._encoding, advice="name its encoding in the config")
        return [line.rstrip("\n") for line in lines]


class SentEvalFile(_LinesFile):
    """Lines `<label> <text>`, the text in words parted by spaces, as SentEval's single-sentence sets are passed on.

    A label without text is an example, too: CR and MPQA have seven of them. Its text is a full stop, as in SentEval's
    own examples.

    Args:
        path: The file.
        encoding: MR, SUBJ and TREC's training file were written under Windows (`cp1252`), the others are UTF-8.
    """

    def __iter__(self) -> Iterator[LabelledText]:
        """Yield the texts.

        Raises:
            UserError: If a line begins with a space: it has no label.
        """
        for number, line in enumerate(self.lines(), 1):
            label, _, text = line.partition(" ")
            if not label:
                raise UserError(f"{self.name}, row {number}: no label in column 1 (a line is `<label> <text>`)")
            text = check_readable(" ".join(text.split()) or ".", f"{self.name}, row {number}: the text")
            yield LabelledText((text,), label)


class MrpcFile(_LinesFile):
    """Microsoft's paraphrase corpus: tab-separated, unquoted, a header row; label, two numbers, two sentences."""

    _COLUMNS = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")

    def __iter__(self) -> Iterator[LabelledText]:
        """Yield the pairs; label 1 is a paraphrase.

        Raises:
            UserError: If a row has no label, or not five cells.
        """
        for number, line in enumerate(self.lines()[1:], 2):
            cells = line.split("\t")
            if not line:
                continue
            if len(cells) != len(self._COLUMNS):
                raise UserError(f"{self.name}, row {number}: {len(cells)} cells instead of {', '.join(self._COLUMNS)}")
            label = _label(cells[0], self._COLUMNS[0], f"{self.name}, row {number}")
            texts = (" ".join(text.split()) for text in cells[3:])
            yield LabelledText(
                tuple(check_readable(text, f"{self.name}, row {number}: a text") for text in texts), label
            )


class ParallelFiles:
    """Texts in one file and their labels in another, line by line, such as SearchSnippets.

    Args:
        texts: File of texts, in UTF-8.
        labels: File of labels.
    """

    def __init__(self, texts: str, labels: str) -> None:
        self.name = texts
        self._texts = _LinesFile(texts)
        self._labels = _LinesFile(labels)

    @property
    def missing(self) -> str | None:
        """Why a file cannot be read, or None when both can."""
        return why_missing(self._texts, self._labels)

    def __iter__(self) -> Iterator[LabelledText]:
        """Yield the texts.

        Raises:
            UserError: If the files have not the same number of lines, or a text or a label is empty.
        """
        texts, labels = self._texts.lines(), self._labels.lines()
        if len(texts) != len(labels):
            raise UserError(f"{self.name} has {len(texts)} lines, but {self._labels.name} {len(labels)}")
        for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
            given = _label(label, "1", f"{self._labels.name}, row {number}")
            yield LabelledText((_text(text, "1", f"{self.name}, row {number}"),), given)


class LabelledTable:
    """Texts and labels of a table's columns.

    Args:
        table: The table.
        text: The column of the text, or the two of a pair.
        label: The column of the label.
    """

    def __init__(self, table: Table, text: str | Sequence[str], label: str) -> None:
        self.name = table.name
        self._table = table
        self._text = (text,) if isinstance(text, str) else tuple(text)
        self._label = label

    @property
    def missing(self) -> str | None:
        """Why the table cannot be read, or None when it can."""
        return self._table.missing

    def __iter__(self) -> Iterator[LabelledText]:
        """Yield the texts.

        Raises:
            UserError: If a record lacks a column, or its text or label is empty.
        """
        for number, record in enumerate(self._table, 1):
            where = f"{self.name}, row {number}"
            texts = tuple(_text(cell(record, column, where), column, where) for column in self._text)
            yield LabelledText(texts, _label(cell(record, self._label, where), self._label, where))


def _text(value: Any, column: str, where: str) -> str:  # noqa: ANN401 (any cell)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}, column {column}: no text; fill it in or take the row out")
    return check_readable(value.strip(), f"{where}, column {column}: the text")


def _label(value: Any, column: str, where: str) -> str:  # noqa: ANN401 (any cell)
    if is_missing(value) or not str(value).strip():
        raise UserError(f"{where}, column {column}: no label; fill it in or take the row out")
    if not isinstance(value, str | int | float) or value in (math.inf, -math.inf):
        raise UserError(f"{where}, column {column}: {str(value)[:60]} is no label; expected a text or a number")
    return check_readable(str(value).strip(), f"{where}, column {column}: the label")
