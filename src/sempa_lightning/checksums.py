"""Checksums of files that are read back, so that a damaged file is never used.

A checksum also covers a name, such as the key of a cache entry: a file that was moved to another key does not fit.
CRC-32 finds every burst of up to 32 bits, and misses other damage once in 4 billion times.
"""

import io
import json
import shutil
import sys
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sempa_lightning.files import write_text

_BLOCK = 4 << 20
_CHECKSUMS = "checksums.json"
_KEY = "checksum"
_COMMENT = b"crc32:"
_COMMENT_BYTES = len(_COMMENT) + 8


def checksum(name: str, *parts: bytes | memoryview) -> str:
    """Compute the CRC-32 of a name and of bytes, as eight hexadecimal digits."""
    value = zlib.crc32(json.dumps(name).encode())
    for part in parts:
        value = zlib.crc32(part, value)
    return f"{value:08x}"


def file_checksum(path: Path, name: str) -> str:
    """Compute the checksum of a file; one block of it is in memory at a time."""
    value = zlib.crc32(json.dumps(name).encode())
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def write_checksums(folder: Path, name: str) -> None:
    """Add a file to a folder that holds the checksum of each other file."""
    found = {path.name: file_checksum(path, f"{name}/{path.name}") for path in sorted(folder.iterdir())}
    (folder / _CHECKSUMS).write_text(_signed(json.dumps(found), name))


def fits_checksums(folder: Path, name: str) -> bool:
    """Check that each file which `write_checksums` has found is there as it was."""
    try:
        written = _content((folder / _CHECKSUMS).read_text(), name)
        return written is not None and all(
            file_checksum(folder / file, f"{name}/{file}") == value for file, value in json.loads(written).items()
        )
    except (OSError, ValueError):
        return False


def write_checked(path: Path, content: str) -> None:
    """Write a text with its checksum; a reader sees the old file or the whole new one."""
    write_text(path, _signed(content, path.name))


def read_checked(path: Path) -> str | None:
    """Read what `write_checked` has written; None if there is no such file, or a damaged one, which is removed."""
    try:
        content = _content(path.read_text(encoding="utf-8"), path.name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        content = None
    if content is None:
        discard(path, "computing it again")
    return content


def with_checksum(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Add the checksum of a JSON object to it."""
    return {**content, _KEY: checksum(name, _canonical(content))}


def fits_checksum(content: Mapping[str, Any], name: str) -> bool:
    """Check a JSON object against the checksum in it; one without, of an earlier version, fits."""
    rest = {key: value for key, value in content.items() if key != _KEY}
    return _KEY not in content or content[_KEY] == checksum(name, _canonical(rest))


def _canonical(content: Mapping[str, Any]) -> bytes:
    """A JSON object as it is read back, whether its file has NaN as a number or as a string."""
    return json.dumps(json.loads(json.dumps(content), parse_constant=str)).encode()


def _signed(content: str, name: str) -> str:
    """A text and its checksum, a line each."""
    return f"{content}\n{checksum(name, content.encode())}\n"


def _content(signed: str, name: str) -> str | None:
    """The text that `_signed` was given; None if it does not fit its checksum."""
    content, _, _ = signed.removesuffix("\n").rpartition("\n")
    return content if signed == _signed(content, name) else None


def sign_zip(archive: io.BytesIO) -> None:
    """Append the checksum of a whole zip archive without a comment, such as a checkpoint of torch, as its comment."""
    archive.seek(-2, io.SEEK_END)
    archive.write(_COMMENT_BYTES.to_bytes(2, "little"))
    with archive.getbuffer() as content:
        value = zlib.crc32(content)
    archive.write(_COMMENT + f"{value:08x}".encode())


def is_whole_zip(path: Path) -> bool:
    """Check a zip archive against its checksum; one without is checked against those of its members."""
    try:
        with path.open("rb") as stream:
            left, value = stream.seek(-_COMMENT_BYTES, io.SEEK_END), 0
            comment = stream.read()
            if comment.startswith(_COMMENT):
                stream.seek(0)
                while left and (block := stream.read(min(left, _BLOCK))):
                    left, value = left - len(block), zlib.crc32(block, value)
                return comment == _COMMENT + f"{value:08x}".encode()
        with zipfile.ZipFile(path) as archive:
            return not archive.comment and archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, OSError):  # all that damage looks like
        return False


def discard(path: Path, remedy: str) -> None:
    """Remove a damaged file and say so on stderr; of several processes that find it, the one that removes it says so.

    Args:
        path: The file.
        remedy: What happens instead, such as "computing it again".
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError:  # a folder that cannot be written: the damaged file stays, and stays unused
        pass
    report(path, remedy)


def discard_folder(folder: Path, name: str, remedy: str) -> None:
    """Remove a folder that does not fit its checksums and say so, as `discard` does.

    The folder is moved away before it is judged: another process may have put a whole one in its place by now, which
    goes back. Files that other processes have mapped into memory stay readable.
    """
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return
    if fits_checksums(aside, name):
        try:
            aside.rename(folder)
        except OSError:  # a third process was faster
            shutil.rmtree(aside, ignore_errors=True)
        return
    shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
    report(folder, remedy)


def report(path: Path, remedy: str) -> None:
    """Print one line on a damaged file."""
    sys.stderr.write(f"{path}: checksum missing or wrong, {remedy}\n")
