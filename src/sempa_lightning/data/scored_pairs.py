"""Sentence pairs with a graded similarity, read from the files of the benchmarks as they are published."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sempa_lightning.assets import local_path
from sempa_lightning.data.missing import why_missing
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
    """JSON lines with `sentence1`, `sentence2` and `score`."""

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs."""
        for line in _lines(self.path):
            row = json.loads(line)
            yield ScoredPair(row["sentence1"], row["sentence2"], float(row["score"]))


class StsBenchmarkFile(_PairFile):
    """STS-B as published: tab-separated and unquoted; score and sentences are columns 5 to 7."""

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs."""
        for line in _lines(self.path):
            fields = line.split("\t")
            yield ScoredPair(fields[5].strip(), fields[6].strip(), float(fields[4]))


class SickFile(_PairFile):
    """SICK as published: tab-separated with a header row; the score is the relatedness, 1-5."""

    def __iter__(self) -> Iterator[ScoredPair]:
        """Yield the pairs."""
        for row in csv.DictReader(_lines(self.path), delimiter="\t", quoting=csv.QUOTE_NONE):
            yield ScoredPair(row["sentence_A"], row["sentence_B"], float(row["relatedness_score"]))


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
            UserError: If the folder holds no such file, or a subset has no scores, or not a line of them for each pair.
        """
        files = sorted(self.path.glob("*.input.*.txt"))
        if not files:
            raise UserError(f"{self.path} holds no *.input.*.txt: give the folder of one year of SemEval STS")
        for inputs in files:
            gold = inputs.with_name(inputs.name.replace(".input.", ".gs."))
            if not gold.is_file():
                raise UserError(f"{inputs} has no scores beside it: {gold.name} is missing")
            lines, scores = (list(_lines(path, keep_empty=True)) for path in (inputs, gold))
            if len(lines) != len(scores):
                raise UserError(f"{inputs} has {len(lines)} lines, but {gold.name} {len(scores)}")
            subset = inputs.name.partition(".input.")[2].removesuffix(".txt")
            for line, score in zip(lines, scores, strict=True):
                if score.strip():
                    sentence1, sentence2 = line.split("\t")[:2]
                    yield ScoredPair(sentence1.strip(), sentence2.strip(), float(score), subset)


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
            UserError: If the Hub cannot be reached and the data set is not in its cache.
        """
        import datasets

        try:
            rows = datasets.load_dataset(self._name, revision=self._revision, split=self._split)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read {self._name} from the Hub ({type(error).__name__}); use eval=[sts] with local files"
            ) from error
        for row in rows:
            yield ScoredPair(row["sentence1"], row["sentence2"], float(row["score"]))


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
        """Yield the texts."""
        for path in self._paths:
            for line in _lines(path):
                yield from _strings(json.loads(line))


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 (any JSON)
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _lines(path: Path, *, keep_empty: bool = False) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            stripped = line.rstrip("\r\n")
            if stripped or keep_empty:
                yield stripped
