"""How far the parts of a corpus are, and how long the rest will take."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import TracebackType

from rich.console import Console

from sempa_lightning.embedding.parts import Parts
from sempa_lightning.evaluation.runner import bars


class Progress:
    """Shows a bar of rows on a terminal, and tells each part that is done in a line.

    Args:
        parts: What is to do.
        console: Where it is told.
    """

    def __init__(self, parts: Parts, console: Console) -> None:
        self._parts = parts
        self._console = console
        self._waiting = deque(parts.rest)
        self._total = sum(len(parts.rows(number)) for number in self._waiting)
        self._done = 0
        self._start = time.monotonic()
        self._bars = bars(console)
        self._bar = self._bars.add_task("rows", total=self._total)

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    @property
    def rest(self) -> list[int]:
        """Numbers of the parts that are to do."""
        return self._parts.rest

    def batches(self, batches: Sequence[list[str]]) -> Iterator[list[str]]:
        """Let the bar follow the batches of the part that is next."""
        rows = len(self._parts.rows(self._waiting[0]))
        for batch in batches:
            yield batch
            self._bars.advance(self._bar, rows / len(batches))

    def tell(self) -> None:
        """Tell, in their order, the parts that were done since the last call."""
        while self._waiting and self._parts.folder.part(self._waiting[0]).is_file():
            number = self._waiting.popleft()
            self._done += len(self._parts.rows(number))
            seconds = time.monotonic() - self._start
            left = timedelta(seconds=round(seconds * (self._total - self._done) / self._done))
            self._bars.update(self._bar, completed=self._done)
            self._console.print(
                f"{self._parts.folder.part(number).name}: {self._done:,} of {self._total:,} rows,"
                f" {self._done / seconds:,.0f} rows/s, {left} left",
                highlight=False,
            )
