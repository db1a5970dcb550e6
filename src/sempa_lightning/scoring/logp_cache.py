"""Log-probabilities of a frozen model on disk, so that no run computes them twice."""

import hashlib
import uuid
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sempa_lightning.checksums import report
from sempa_lightning.files import naming

_RECORD = np.dtype([("key", "V16"), ("logp", "<f8"), ("checksum", "<u4")])
# Of files whose checksums cover the folder's name; earlier ones are not read.
_SUFFIX = ".logps2"


class LogpCache:
    """Maps (prompt, completion) to a log-probability, and never to another one once it is there.

    Each process appends to a file of its own and reads everybody's: processes share the work without a lock, and a
    process that is killed loses nothing. Every record carries its own checksum, which covers the folder's name: what is
    torn, damaged or of another model is not there, is computed and appended again, and is dropped from its file.

    Args:
        folder: One for each model and precision, `<model>/<precision>`; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seed = zlib.crc32(f"{folder.parent.name}/{folder.name}".encode())
        self._file = folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        self._logps: dict[bytes, float] = {}
        self._read_to: Counter[Path] = Counter()

    def get(self, keys: Sequence[bytes]) -> list[float] | None:
        """The log-probabilities, or None unless all are there."""
        if not self._logps.keys() >= set(keys):
            self._read_news()
        found = [self._logps.get(key) for key in keys]
        return None if None in found else found  # type: ignore[return-value]

    def put(self, keys: Sequence[bytes], logps: Sequence[float]) -> None:
        """Add those that are not there yet, in memory and on disk."""
        new = {key: logp for key, logp in zip(keys, logps, strict=True) if key not in self._logps}
        self._logps |= new
        records = np.array([(key, logp, 0) for key, logp in new.items()], dtype=_RECORD)
        records["checksum"] = [self._checksum(record) for record in records]
        self._folder.mkdir(parents=True, exist_ok=True)
        with naming(self._file), self._file.open("ab") as stream:
            stream.write(records.tobytes())

    def _read_news(self) -> None:
        """Take up what other processes have written since; of two values, the one that was here first stays."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._file:
                records = _read(path, self._read_to[path])
                self._read_to[path] += records.nbytes
                whole = [record for record in records if record["checksum"] == self._checksum(record)]
                for record in whole:
                    self._logps.setdefault(bytes(record["key"]), float(record["logp"]))
                if len(whole) < len(records):
                    self._repair(path)

    def _repair(self, path: Path) -> None:
        """Drop the damaged records of a file; of several processes that find them, the one that takes the file does."""
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        records = _read(aside, 0)
        whole = records[[record["checksum"] == self._checksum(record) for record in records]]
        aside.write_bytes(whole.tobytes())
        aside.replace(path)
        self._read_to[path] = whole.nbytes
        report(path, f"scoring {len(records) - len(whole)} of {len(records)} log-probabilities again")

    def _checksum(self, record: np.void) -> int:
        return zlib.crc32(record["logp"].tobytes(), zlib.crc32(bytes(record["key"]), self._seed))


def key(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bytes:
    """What a candidate is known by: its token ids say all of tokenizer, template and truncation."""
    digest = hashlib.blake2b(np.asarray(prompt_ids, dtype="<i8").tobytes(), digest_size=16)
    digest.update(b"|")
    digest.update(np.asarray(completion_ids, dtype="<i8").tobytes())
    return digest.digest()


def _read(path: Path, start: int) -> np.ndarray:
    """The whole records of a file from a place on."""
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            content = stream.read()
    except FileNotFoundError:  # another process repairs it
        content = b""
    return np.frombuffer(content, dtype=_RECORD, count=len(content) // _RECORD.itemsize)
