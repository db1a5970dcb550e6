"""Records of one table, a local file or a data set of the Hub; cells stay as they are written."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

import datasets
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError

Record = dict[str, Any]


@runtime_checkable
class Table(Protocol):
    """Records under a name that error messages can use."""

    @property
    def name(self) -> str:
        """File path or name on the Hub."""

    def __iter__(self) -> Iterator[Record]:
        """Yield the records in their order.

        Raises:
            UserError: If the table is missing, empty or malformed.
        """

    @property
    def missing(self) -> str | None:
        """Why the table cannot be read here, or None when it can be or only trying will tell."""


class FileTable:
    """A local file; its suffix says what it is: `.csv`, `.tsv`, `.jsonl`, `.parquet` or `.txt`.

    Text is UTF-8. In `.csv` and `.tsv` the first line names the columns and cells may be quoted by `"`; a
    cell is the text that is written there, so `nan` and `NA` are words and an empty cell is an empty text. A `.txt`
    file has one column, `text`, and a record in each line that is not blank.

    Args:
        path: The file, or a `pkg://` location; null is a file that is still to be named.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else local_path(path)
        self.name = path or "data.path"

    @property
    def missing(self) -> str | None:
        """Why the file cannot be read, or None when it can."""
        if self._path is None:
            return "no data file is named"
        if self._path.is_dir():
            return f"{self.name} is a folder, not a file"
        return None if self._path.is_file() else f"no file {self.name}"

    def __iter__(self) -> Iterator[Record]:
        """Yield one dict for each record.

        Raises:
            UserError: If the file is missing, empty, of another kind, not UTF-8, or has a malformed line.
        """
        if self._path is None or self.missing:
            raise UserError(f"{self.missing}; give data.path=<a {', '.join(_READERS)} file>")
        read = _READERS.get(self._path.suffix.lower())
        if read is None:
            raise UserError(f"{self.name}: unknown kind of file; give one of {', '.join(_READERS)}")
        number = 0
        for number, record in enumerate(read(self._path), 1):  # noqa: B007 (read after the loop)
            yield record
        if number == 0:
            raise UserError(f"{self.name} is empty: it holds no record")


@dataclass(frozen=True)
class HubTable:
    """A data set of the Hugging Face Hub.

    Attributes:
        name: Its name, `owner/name`.
        revision: Commit, tag or branch.
        split: The split to read.
        file: One file of the repository, read as `FileTable` reads it; null to read the split as the `datasets`
            library does.
    """

    name: str
    revision: str | None = None
    split: str = "train"
    file: str | None = None

    @property
    def missing(self) -> str | None:
        """None: only trying tells."""
        return None

    def __iter__(self) -> Iterator[Record]:
        """Yield one dict for each record.

        Raises:
            UserError: If the data set cannot be reached or read.
        """
        try:
            records = self._split() if self.file is None else FileTable(self._download(self.file))
        except (OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"cannot read {self.name} from the Hub: {reason.rstrip('.')}; get the file on a machine that"
                " can reach it and give its path"
            ) from error
        yield from records

    def _split(self) -> datasets.Dataset:
        return datasets.load_dataset(self.name, revision=self.revision, split=self.split)

    def _download(self, file: str) -> str:
        from huggingface_hub import hf_hub_download

        return hf_hub_download(self.name, file, revision=self.revision, repo_type="dataset")


def table(path: str | None, hub: HubTable | None = None) -> Table:
    """Choose the local file where a path is given, the data set of the Hub otherwise."""
    return FileTable(path) if path is not None or hub is None else hub


def named_table(source: str, split: str, revision: str | None) -> Table:
    """Find the table that a name on the command line stands for.

    Args:
        source: A file (see `FileTable`); what neither is there nor looks like a file is a data set of the Hub.
        split: Which split of a data set of the Hub.
        revision: Its commit, tag or branch.

    Raises:
        UserError: If it is a file that is not there.
    """
    path = local_path(source)
    is_file = path.exists() or path.suffix in _READERS or source.startswith(("/", ".", "~", "pkg://"))
    table = FileTable(source) if is_file else HubTable(source, revision, split)
    if table.missing:
        raise UserError(f"{table.missing}: name a {', '.join(_READERS)} file or a data set of the Hub")
    return table


def cell(record: Record, column: str, where: str) -> Any:  # noqa: ANN401 (any cell)
    """Take one cell of a record.

    Raises:
        UserError: If the record has no such column; `where` names the record.
    """
    if column not in record:
        raise UserError(f"{where} has no column {column!r}; it has {', '.join(map(repr, record)) or 'none'}")
    return record[column]


def texts(record: Record, column: str, where: str) -> tuple[str, ...]:
    """Take the texts of one cell that holds a text or a list of texts.

    Raises:
        UserError: If it holds anything else, or there is no such column; `where` names the record.
    """
    value = cell(record, column, where)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise UserError(f"{where}: {column!r} is neither text nor a list of texts")
    return tuple(values)


def _csv_records(path: Path) -> Iterator[Record]:
    return _delimited(path, ",")


def _tsv_records(path: Path) -> Iterator[Record]:
    return _delimited(path, "\t")


def _delimited(path: Path, delimiter: str) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(_text_lines(path, lines), delimiter=delimiter, strict=True)
        try:
            columns = next(reader, [])
            if len(set(columns)) < len(columns):
                raise UserError(f"{path}, line 1: a column name comes twice among {', '.join(columns)}")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells, but the first line names"
                        f" {len(columns)} columns"
                    )
                yield dict(zip(columns, cells, strict=True))
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: malformed quoting or cell: {error}") from error


def _jsonl_records(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(_text_lines(path, lines), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise UserError(f"{path}, line {number}: a {type(record).__name__} instead of a JSON object")
            yield record


def _parquet_records(path: Path) -> Iterator[Record]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is no parquet file: {str(error).splitlines()[0]}") from error


def _txt_records(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as lines:
        yield from ({"text": line.strip()} for line in _text_lines(path, lines) if line.strip())


def _text_lines(path: Path, lines: TextIO) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if "\0" in line:
                raise UserError(f"{path}, line {number}: binary data, not text")
            yield line
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, after line {number}: not UTF-8 text ({error.reason}); convert it to UTF-8") from error


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".csv": _csv_records,
    ".tsv": _tsv_records,
    ".jsonl": _jsonl_records,
    ".parquet": _parquet_records,
    ".txt": _txt_records,
}

SUFFIXES = tuple(_READERS)
"""What the names of files that can be read end with."""
