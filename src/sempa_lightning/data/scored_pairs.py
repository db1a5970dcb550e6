"""Sentence pairs with a graded similarity, read from the files of the benchmarks as they are published."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sempa_lightning.assets import local_path
from sempa_lightning.data.flaw import check_readable
from sempa_lightning.data.lines import parsed_json, read_lines, read_records
from sempa_lightning.data.missing import why_missing
from sempa_lightning.data.number import finite_number, parsed_number
from sempa_lightning.data.table import Record, cell, readable_cell
from sempa_lightning.errors import UserError


class ScoredPair(NamedTuple):
    """Two sentences and how alike people found them (0-5; SICK: 1-5).

    `subset` is the part of the benchmark that the pair belongs to, where it has parts.
    """

    sentence1: str
    sentence2: str
    score: float
    subset: str = ""


@runtime_checkable
class PairSource(Protocol):
    """Anything that yields scored pairs, from a file or from the Hub."""

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs in their published order."""

    @property
    def missing(self) -> str | None:
        """Why the source cannot be read here, or None when it can."""


class _PairFile:
    """A source that is one local file."""

    def __init__(self, path: str) -> None:
        self.path = local_path(path)

    @property
    def missing(self) -> str | None:
        """Why the file cannot be read, or None when it can."""
        return None if self.path.is_file() else f"no file {self.path}"


class JsonlPairs(_PairFile):
    """JSON lines with `sentence1`, `sentence2` and `score`, a number."""

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs.

        Raises:
            UserError: If a line is no JSON object with two texts and a finite number.
        """
        for number, record in read_records(self.path):
            yield _pair(record, f"{self.path}, line {number}")


class StsBenchmarkFile(_PairFile):
    """STS-B as published: tab-separated and unquoted; score and sentences are columns 5 to 7."""

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs.

        Raises:
            UserError: If a line has fewer columns, no finite score, or a text that is unreadable.
        """
        for where, fields in _rows(self.path, 7):
            yield _scored(fields[5].strip(), fields[6].strip(), fields[4], where)


class SickFile(_PairFile):
    """SICK as published: tab-separated with a header row; the score is the relatedness, 1-5."""

    _COLUMNS = ("sentence_A", "sentence_B", "relatedness_score")

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs.

        Raises:
            UserError: If a column is missing, or a line has fewer, no finite score, or a text that is unreadable.
        """
        rows = _rows(self.path)
        where, header = next(rows, (str(self.path), []))
        if absent := [name for name in self._COLUMNS if name not in header]:
            raise UserError(f"{where}: no column {absent[0]!r}; expected {', '.join(self._COLUMNS)}")
        first, second, score = (header.index(name) for name in self._COLUMNS)
        for where, fields in rows:
            _check_width(fields, len(header), where)
            yield _scored(fields[first], fields[second], fields[score], where)


class SemEvalFolder:
    """A year of SemEval STS: `*.input.<subset>.txt` beside `*.gs.<subset>.txt`; unscored lines are skipped."""

    def __init__(self, path: str) -> None:
        self.path = local_path(path)

    @property
    def missing(self) -> str | None:
        """Why the folder cannot be read, or None when it can."""
        return None if self.path.is_dir() else f"no folder {self.path}"

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs of all subsets, subsets in alphabetical order.

        Raises:
            UserError: If the folder holds no such file, or a subset has no scores, or not a line of them for each pair;
                if a line has fewer than two texts, no finite score, or a text that is unreadable.
        """
        files = sorted(self.path.glob("*.input.*.txt"))
        if not files:
            raise UserError(f"{self.path} holds no *.input.*.txt: give the folder of one year of SemEval STS")
        for inputs in files:
            gold = inputs.with_name(inputs.name.replace(".input.", ".gs."))
            if not gold.is_file():
                raise UserError(f"{inputs} has no scores beside it: {gold.name} is missing")
            lines, scores = ([line.rstrip("\r\n") for line in read_lines(path)] for path in (inputs, gold))
            if len(lines) != len(scores):
                raise UserError(f"{inputs} has {len(lines)} lines, but {gold.name} {len(scores)}")
            subset = inputs.name.partition(".input.")[2].removesuffix(".txt")
            for number, (line, score) in enumerate(zip(lines, scores, strict=True), 1):
                if score.strip():
                    where, fields = f"{inputs}, line {number}", line.split("\t")
                    _check_width(fields, 2, where)
                    value = parsed_number(score, f"{gold}, line {number}: the score")
                    first, second = (check_readable(text.strip(), f"{where}: a text") for text in fields[:2])
                    yield ScoredPair(first, second, value, subset)


class HubPairs:
    """Pairs of a data set on the Hub, with columns `sentence1`, `sentence2` and `score`.

    Args:
        name: Data set.
        revision: Commit; a benchmark must not change under one's feet.
        split: Split.
    """

    def __init__(self, name: str, revision: str, split: str) -> None:
        self._name = name
        self._revision = revision
        self._split = split

    @property
    def missing(self) -> str | None:
        """None: a data set that is asked for must be reachable."""
        return None

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs.

        Raises:
            UserError: If the Hub cannot be reached and the data set is not in its cache; if a record is no pair.
        """
        import datasets

        try:
            rows = datasets.load_dataset(self._name, revision=self._revision, split=self._split)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read {self._name} from the Hub ({type(error).__name__}); use eval=[sts] with local files"
            ) from error
        for number, record in enumerate(rows, 1):
            yield _pair(record, f"{self._name}, record {number}")


class PairSentences:
    """The sentences of some pair sources, for taking them out of a training text."""

    def __init__(self, sources: Sequence[PairSource]) -> None:
        self._sources = sources

    @property
    def missing(self) -> str | None:
        """Why a source cannot be read, or None when all can."""
        return why_missing(*self._sources)

    def __iter__(self) -> Iterator[str]:
        """Yield both sentences of each pair.

        Raises:
            UserError: If a source is missing: leaving it out silently would let its sentences through.
        """
        if self.missing:
            raise UserError(f"cannot take evaluation sentences out of the text: {self.missing}")
        for source in self._sources:
            for pair in source:
                yield pair.sentence1
                yield pair.sentence2


class JsonlStrings:
    """Every text value in some JSON-lines files, for taking them out of a training text."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = [local_path(path) for path in paths]

    @property
    def missing(self) -> str | None:
        """Why a file cannot be read, or None when all can."""
        return next((f"no file {path}" for path in self._paths if not path.is_file()), None)

    def __iter__(self) -> Iterator[str]:
        """Yield the texts.

        Raises:
            UserError: If a line is no JSON, or a text is unreadable.
        """
        for path in self._paths:
            for number, line in enumerate(read_lines(path), 1):
                where = f"{path}, line {number}"
                for text in strings_of(parsed_json(line, where)) if line.strip() else ():
                    yield check_readable(text, f"{where}: a text")


def strings_of(value: Any) -> Iterator[str]:  # noqa: ANN401 (any JSON)
    """Yield every text in nested lists and objects, in order; names of keys are none of them."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict | list):
            waiting += [*(inner.values() if isinstance(inner, dict) else inner)][::-1]


def _pair(record: Record, where: str) -> ScoredPair:
    """The pair of a record with columns `sentence1`, `sentence2` and `score`."""
    columns = ("sentence1", "sentence2")
    first, second = (readable_cell(record, column, where) for column in columns)
    return ScoredPair(first, second, finite_number(cell(record, "score", where), f"{where}: 'score'"))


def _scored(first: str, second: str, score: str, where: str) -> ScoredPair:
    first, second = (check_readable(text, f"{where}: a text") for text in (first, second))
    return ScoredPair(first, second, parsed_number(score, f"{where}: the score"))


def _rows(path: Path, width: int = 0) -> Iterator[tuple[str, list[str]]]:
    """The cells of each line of a tab-separated file that is not empty, and the line's place."""
    for number, line in enumerate(read_lines(path), 1):
        if stripped := line.rstrip("\r\n"):
            where, fields = f"{path}, line {number}", stripped.split("\t")
            _check_width(fields, width, where)
            yield where, fields


def _check_width(fields: Sequence[str], width: int, where: str) -> None:
    if len(fields) < width:
        raise UserError(f"{where}: {len(fields)} columns parted by tabs, expected {width}")
