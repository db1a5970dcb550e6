"""Log-probabilities of a frozen model on disk, so that no run computes them twice."""

import hashlib
import uuid
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sempa_lightning.files import naming

_RECORD = np.dtype([("key", "V16"), ("logp", "<f8"), ("checksum", "<u4")])


class LogpCache:
    """Maps (prompt, completion) to a log-probability, and never to another one once it is there.

    Each process appends to a file of its own and reads everybody's: processes share the work without a lock, and a
    process that is killed loses nothing. Every record carries its own checksum: what is torn or damaged is not there,
    and is computed and appended again.

    Args:
        folder: One for each model and precision; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / f"{uuid.uuid4().hex}.logps"
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
        records["checksum"] = [_checksum(record) for record in records]
        self._folder.mkdir(parents=True, exist_ok=True)
        with naming(self._file), self._file.open("ab") as stream:
            stream.write(records.tobytes())

    def _read_news(self) -> None:
        """Take up what other processes have written since; of two values, the one that was here first stays."""
        for path in sorted(self._folder.glob("*.logps")):
            if path != self._file:
                records = _read(path, self._read_to[path])
                self._read_to[path] += records.nbytes
                for record in records:
                    if record["checksum"] == _checksum(record):
                        self._logps.setdefault(bytes(record["key"]), float(record["logp"]))


def key(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bytes:
    """What a candidate is known by: its token ids say all of tokenizer, template and truncation."""
    digest = hashlib.blake2b(np.asarray(prompt_ids, dtype="<i8").tobytes(), digest_size=16)
    digest.update(b"|")
    digest.update(np.asarray(completion_ids, dtype="<i8").tobytes())
    return digest.digest()


def _read(path: Path, start: int) -> np.ndarray:
    """The whole records of a file from a place on."""
    with path.open("rb") as stream:
        stream.seek(start)
        content = stream.read()
    return np.frombuffer(content, dtype=_RECORD, count=len(content) // _RECORD.itemsize)


def _checksum(record: np.void) -> int:
    return zlib.crc32(record["logp"].tobytes(), zlib.crc32(bytes(record["key"])))
