"""Tokenised data on disk, under the hash of what it was made from."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets


def content_hash(*parts: str | bytes) -> str:
    """Hash texts, in order, into 32 hexadecimal digits; where one part ends and the next begins matters."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.hexdigest()[:32]


def cached(
    cache_dir: Path, key: str, rows: Callable[[], Iterable[dict[str, Any]]], features: datasets.Features
) -> datasets.Dataset:
    """Read the data set `key` from the cache, building it first where it is not there.

    It is built under a temporary name and renamed, so that other processes see all of it or nothing.
    """
    folder = cache_dir / key
    if not folder.is_dir():
        building = cache_dir / f".{key}.{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            with datasets.arrow_writer.ArrowWriter(path=str(building / "rows.arrow"), features=features) as writer:
                for row in rows():
                    writer.write(row)
                writer.finalize()
            if not folder.is_dir():
                building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return datasets.Dataset.from_file(str(folder / "rows.arrow"))
