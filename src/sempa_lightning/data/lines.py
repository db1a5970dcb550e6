"""Lines of text files, decoded in one way by all readers."""

import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sempa_lightning.errors import UserError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def read_lines(
    path: Path,
    encoding: str = "utf-8-sig",
    *,
    newline: str | None = None,
    advice: str = "convert it to UTF-8",
) -> Iterator[str]:
    """Yield the lines of a text file, plain or compressed (`.gz`, `.xz`); a byte order mark is skipped.

    Args:
        path: The file.
        encoding: Its encoding.
        newline: As for `open`.
        advice: What to do about a file in another encoding.

    Raises:
        UserError: If the file cannot be decoded or decompressed, or holds NUL; names file and line.
    """
    number = 0
    try:
        with _opened(path, "rt", encoding=encoding, newline=newline) as lines:
            for number, line in enumerate(lines, 1):
                if "\0" in line:
                    raise UserError(f"{path}, line {number}: binary data, not text")
                yield line
    except UnicodeDecodeError as error:
        # Text is decoded in blocks, so that the line is not known.
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        where = f"{path}, line {_undecodable(path, encoding)}"
        raise UserError(f"{where}: not {name} text ({error.reason}); {advice}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}, after line {number}: damaged {path.suffix} file ({error})") from error


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON-lines file with the number of their line; blank lines are skipped.

    Raises:
        UserError: As `read_lines`, and if a line holds no JSON object.
    """
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            where = f"{path}, line {number}"
            record = parsed_json(line, where)
            if not isinstance(record, dict):
                raise UserError(f"{where}: a {type(record).__name__} instead of a JSON object")
            yield number, record


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON file that holds one list of them; the file is read as a whole.

    Raises:
        UserError: As `read_lines`, and if the file is no list of JSON objects.
    """
    records = parsed_json("".join(read_lines(path)), str(path))
    if not isinstance(records, list):
        raise UserError(f"{path}: a {type(records).__name__} instead of a list of JSON objects")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise UserError(f"{path}, record {number}: a {type(record).__name__} instead of a JSON object")
        yield record


def parsed_json(text: str, where: str) -> Any:  # noqa: ANN401 (any JSON)
    """Parse JSON.

    Raises:
        UserError: If the text is no JSON or is nested too deeply; `where` names its place.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from error
    except RecursionError as error:
        raise UserError(f"{where}: JSON is nested too deeply") from error


def _opened(path: Path, mode: str, **arguments: Any) -> IO[Any]:  # noqa: ANN401 (arguments of `open`)
    opener: Any = _OPENERS.get(path.suffix.lower(), open)
    return opener(path, mode, **arguments)  # type: ignore[no-any-return]


def _undecodable(path: Path, encoding: str) -> int:
    """Number of the first line that cannot be decoded."""
    with _opened(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                return number
    return 0
