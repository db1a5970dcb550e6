"""Records of one table, a local file or a data set of the Hub; cells stay as they are written."""

import csv
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import datasets
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

from sempa_lightning.assets import local_path
from sempa_lightning.data.flaw import check_readable
from sempa_lightning.data.lines import read_lines, read_objects, read_records
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
    """A local file; its suffix says what it is: `.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet` or `.txt`.

    Text is UTF-8. In `.csv` and `.tsv` the first line names the columns and cells may be quoted by `"`; a
    cell is the text that is written there, so `nan` and `NA` are words and an empty cell is an empty text. A `.txt`
    file has one column, `text`, and a record in each line that is not blank. A `.json` file is one list of objects,
    read as a whole. All but `.parquet` may be compressed: `.csv.gz`, `.jsonl.xz`.

    Args:
        path: The file, or a `pkg://` location; null is a file that is still to be named.

    Raises:
        UserError: If the path is no text.
    """

    def __init__(self, path: object) -> None:
        named = None if path is None else one_name(path, "data.path")
        self._path = None if named is None else local_path(named)
        self.name = named or "data.path"

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
        read = _READERS.get(_kind(self._path))
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


def one_name(value: object, key: str) -> str:
    """Return the name of one file or data set that a config key holds.

    Raises:
        UserError: If it holds something else, such as a list of files.
    """
    if not isinstance(value, str):
        raise UserError(f"{key}: expected the name of one file, found {value!r}. Join several files into one.")
    return value


def table(path: object, hub: HubTable | None = None) -> Table:
    """Choose the local file where a path is given, the data set of the Hub otherwise."""
    return FileTable(path) if path is not None or hub is None else hub


def named_table(key: str, source: object, split: str, revision: str | None) -> Table:
    """Find the table that a name on the command line stands for.

    Args:
        key: The key that holds the name.
        source: A file (see `FileTable`); what neither is there nor looks like a file is a data set of the Hub.
        split: Which split of a data set of the Hub.
        revision: Its commit, tag or branch.

    Raises:
        UserError: If it is no name, or a file that is not there.
    """
    source = one_name(source, key)
    path = local_path(source)
    is_file = path.exists() or is_table(path) or source.startswith(("/", ".", "~", "pkg://"))
    table = FileTable(source) if is_file else HubTable(source, revision, split)
    if table.missing:
        raise UserError(f"{key}: {table.missing}. Name a {', '.join(_READERS)} file or a data set of the Hub.")
    return table


def cell(record: Record, column: str, where: str) -> Any:  # noqa: ANN401 (any cell)
    """Take one cell of a record.

    Raises:
        UserError: If the record has no such column; `where` names the record.
    """
    if column not in record:
        raise UserError(f"{where} has no column {column!r}; it has {', '.join(map(repr, record)) or 'none'}")
    return record[column]


def text_cell(record: Record, column: str, where: str) -> str:
    """Take the text of one cell; a missing value (null, or NaN as pandas writes it) is an empty text.

    Raises:
        UserError: If it holds anything else, or there is no such column; `where` names the record.
    """
    value = cell(record, column, where)
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: {column!r} is {type(value).__name__}, not text")
    return value


def readable_cell(record: Record, column: str, where: str) -> str:
    """Take the text of one cell of an evaluation set or a corpus, whose rows must not be left out silently.

    Raises:
        UserError: If it holds no text or an unreadable one, or there is no such column; `where` names the record.
    """
    value = cell(record, column, where)
    if not isinstance(value, str):
        raise UserError(f"{where}: {column!r} is {type(value).__name__}, not text")
    return check_readable(value, f"{where}: {column!r}")


def texts(record: Record, column: str, where: str) -> tuple[str, ...]:
    """Take the texts of one cell that holds a text or a list of texts; a missing value is an empty text.

    Raises:
        UserError: If it holds anything else, or there is no such column; `where` names the record.
    """
    value = cell(record, column, where)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) or is_missing(text) for text in values):
        raise UserError(f"{where}: {column!r} is neither text nor a list of texts")
    return tuple("" if is_missing(text) else text for text in values)


def is_missing(value: object) -> bool:
    """Whether a cell holds no value: null, or NaN as pandas writes it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _csv_records(path: Path) -> Iterator[Record]:
    return _delimited(path, ",")


def _tsv_records(path: Path) -> Iterator[Record]:
    return _delimited(path, "\t")


def _delimited(path: Path, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)  # of the whole process; long cells are the matter of `flaw`
    reader = csv.reader(read_lines(path, newline=""), delimiter=delimiter, strict=True)
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
    return (record for _, record in read_records(path))


def _parquet_records(path: Path) -> Iterator[Record]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is no parquet file: {str(error).splitlines()[0]}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a text is not UTF-8 ({error.reason}); write the file again") from error


def _txt_records(path: Path) -> Iterator[Record]:
    yield from ({"text": line.strip()} for line in read_lines(path) if line.strip())


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".csv": _csv_records,
    ".tsv": _tsv_records,
    ".jsonl": _jsonl_records,
    ".parquet": _parquet_records,
    ".txt": _txt_records,
    ".json": read_objects,
}


def _kind(path: Path) -> str:
    """The suffix that says what a file is, `.gz` and `.xz` aside."""
    compressed = path.suffix.lower() in (".gz", ".xz")
    return path.with_suffix("").suffix.lower() if compressed else path.suffix.lower()


def is_table(path: Path) -> bool:
    """Whether the name of a file is that of a table that can be read."""
    return _kind(path) in _READERS
