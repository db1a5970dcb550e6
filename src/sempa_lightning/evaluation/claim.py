"""Claims by which processes share work through a folder, on one machine or on several that see the same disk."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class Claim:
    """Something that this process alone works on, for as long as the claim is held.

    The claim is a lock on a file, which the system takes back when the process dies, however it dies.

    Args:
        file: The file, locked; it counts how often work was begun and not ended.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @property
    def begun(self) -> int:
        """How many processes have died at this work."""
        self._file.seek(0)
        return int(self._file.read() or 0)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count this process among the dead until the block ends, in whatever way a living process can end it."""
        before = self.begun
        self._write(before + 1)
        try:
            yield
        finally:
            self._write(before)

    def forget(self) -> None:
        """Let nobody have died."""
        self._write(0)

    def _write(self, number: int) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(str(number))
        self._file.flush()


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[Claim | None]:
    """Claim what the path stands for; None if another process has it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield Claim(file)
