"""Files that are whole or not there: writing them so, and reading what others write meanwhile."""

import errno
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sempa_lightning.errors import UserError

_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty while there is no such file.

    Raises:
        UserError: If the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error}): remove it, and run again what wrote it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: remove it, and run again what wrote it")
    return content


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON objects, one a line; a last line without an end is left out: its process writes it, or died in it.

    Raises:
        UserError: If any other line is damaged.
    """
    lines = whole_lines(path)
    for number, line in enumerate(lines, 1):
        if line is None:
            raise damaged_line(path, number)
    return [line for line in lines if line is not None]


def whole_lines(path: Path) -> list[dict[str, Any] | None]:
    """Read the lines of a file that have an end, as JSON objects; None for each that is none."""
    *lines, _ = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    return [_object(line) for line in lines]


def damaged_line(path: Path, number: int) -> UserError:
    """Name a line that is damaged."""
    return UserError(f"{path}, line {number}: not a JSON object. Restore the file, or remove this line.")


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def cut_unfinished(path: Path) -> None:
    """Remove a last line that has no end, before more lines are appended."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with replacing(path) as temporary:
            temporary.write_bytes(content[: content.rfind(b"\n") + 1])


def strict_json(content: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Serialize to JSON that every reader accepts.

    JSON has no NaN and no infinity: such a number becomes the string `NaN`, `Infinity` or `-Infinity`.
    """
    return json.dumps(_strict(content), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def with_nonfinite(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the strings that `strict_json` writes for numbers that are not finite back into numbers."""
    return {key: _NONFINITE.get(value, value) if isinstance(value, str) else value for key, value in numbers.items()}


def _strict(content: object) -> object:
    if isinstance(content, float) and not math.isfinite(content):
        return "NaN" if math.isnan(content) else "Infinity" if content > 0 else "-Infinity"
    if isinstance(content, Mapping):
        return {key: _strict(value) for key, value in content.items()}
    return [_strict(value) for value in content] if isinstance(content, list | tuple) else content


def write_json(path: Path, content: object) -> None:
    """Write JSON (see `strict_json`) so that a reader sees the old file or the whole new one."""
    write_text(path, strict_json(content, indent=2) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a text file so that a reader sees the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error in writing name the path that a person knows: a full disk names none, others a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
    except Exception as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):  # so writers in Rust tell an error of the system
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        if isinstance(error, SafetensorError):
            raise OSError(errno.EIO, str(error), str(path)) from error
        raise


def _beside(path: Path) -> Path:
    """A hidden name that no other process takes, on whatever machine."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary path beside `path` and move it there when the block ends well, safe from a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with naming(path):
            yield temporary
            flush(temporary)
            temporary.replace(path)
            flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk itself before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks have no such operation, for folders above all
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Lend a new, empty folder beside `path` and put it in its place when the block ends well, as `replacing` does."""
    temporary = _beside(path)
    temporary.mkdir(parents=True)
    try:
        with naming(path):
            yield temporary
            for file in temporary.rglob("*"):
                flush(file)
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
            flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
