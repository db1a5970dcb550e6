"""Tokenised data on disk, under the hash of what it was made from."""

import hashlib
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets

from sempa_lightning.checksums import discard_folder, fits_checksums, write_checksums
from sempa_lightning.errors import UserError

MakeRows = Callable[[Counter[str]], Iterable[dict[str, Any]]]

_TRIES = 3


class ContentHash:
    """Hashes texts as they come, into 32 hexadecimal digits; where one part ends and the next begins matters."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, part: str | bytes) -> None:
        """Take the next part."""
        # JSON can hold half of a surrogate pair; such text is cleaned out later, but has a hash before.
        encoded = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        self._digest.update(f"{len(encoded)}:".encode())
        self._digest.update(encoded)

    def __str__(self) -> str:
        """The digits."""
        return self._digest.hexdigest()[:32]


def content_hash(*parts: str | bytes) -> str:
    """Hash texts, in order (see `ContentHash`)."""
    digest = ContentHash()
    for part in parts:
        digest.add(part)
    return str(digest)


def tokenizer_content(tokenizer: Any) -> str:  # noqa: ANN401 (transformers types no backend)
    """Write down everything about a tokenizer that token ids follow from."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    for state in ("padding", "truncation"):  # left there by the last call, which may have been anyone's
        backend.pop(state, None)
    special = (tokenizer.special_tokens_map, sorted(tokenizer.all_special_ids), tokenizer.eos_token_id)
    return json.dumps([backend, tokenizer.chat_template, repr(special)])


def cached(
    cache_dir: Path,
    key: str,
    rows: MakeRows,
    features: datasets.Features,
) -> tuple[datasets.Dataset, Counter[str]]:
    """Read the data set `key` from the cache, building it first where it is not there.

    It is built under a temporary name and renamed, so that other processes see all of it or nothing. An entry that does
    not fit its checksums is built again.

    Args:
        cache_dir: Folder of all data sets.
        key: Content hash of everything that the rows follow from.
        rows: Makes the rows, and counts in its argument what is worth telling about them.
        features: Column types.

    Returns:
        The rows, and what was counted when they were made, be it now or in an earlier run.

    Raises:
        UserError: If an entry is damaged as soon as it is written.
    """
    folder = cache_dir / key
    for _ in range(_TRIES):
        if (entry := _opened(folder)) is not None:
            return entry
        discard_folder(folder, key, "tokenizing again")
        _build(folder, rows, features)
    raise UserError(f"paths.cache_dir: {folder} is damaged as soon as it is written. Check the disk.")


def _opened(folder: Path) -> tuple[datasets.Dataset, Counter[str]] | None:
    """Open an entry; None if it is missing or damaged."""
    if not fits_checksums(folder, folder.name):
        return None
    try:
        counts = json.loads((folder / "counts.json").read_text())
        return datasets.Dataset.from_file(str(folder / "rows.arrow")), Counter(counts)
    except FileNotFoundError:  # another process replaces it at this moment
        return None


def _build(folder: Path, rows: MakeRows, features: datasets.Features) -> None:
    building = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    building.mkdir(parents=True)
    try:
        _write(building, rows, features)
        write_checksums(building, folder.name)
        building.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster
            error.filename = error.filename or str(folder)  # a full disk names none
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write(folder: Path, rows: MakeRows, features: datasets.Features) -> None:
    counts: Counter[str] = Counter()
    with datasets.arrow_writer.ArrowWriter(path=str(folder / "rows.arrow"), features=features) as writer:
        for row in rows(counts):
            writer.write(row)
        writer.finalize()
    (folder / "counts.json").write_text(json.dumps(counts))
