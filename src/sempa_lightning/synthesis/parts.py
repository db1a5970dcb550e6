"""The work cut into parts, each of which is a file when it is done."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sempa_lightning.artifacts import SynthesisDir
from sempa_lightning.checksums import discard
from sempa_lightning.errors import UserError
from sempa_lightning.synthesis.draft import Draft, read_drafts, write_drafts


@dataclass(frozen=True)
class Parts:
    """The sentences in parts of equal size, the last one aside; what is not in the folder is to do.

    A part is written whole or not at all, so that a process that is killed costs one part.

    Attributes:
        folder: Where they are written.
        sentences: All sentences.
        size: Sentences of a part.
    """

    folder: SynthesisDir
    sentences: Sequence[str]
    size: int

    def __getitem__(self, number: int) -> Sequence[str]:
        """The sentences of a part."""
        return self.sentences[number * self.size : (number + 1) * self.size]

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that are to do."""
        return [number for number in self._numbers if not self.folder.part(number).is_file()]

    def remove_damaged(self) -> None:
        """Remove the parts that do not hold what was written, so that they are to do again."""
        for path in map(self.folder.part, self._numbers):
            try:
                if path.is_file():
                    read_drafts(path)
            except UserError:
                discard(path, "writing its sentences again")

    def write(self, number: int, drafts: Sequence[Draft]) -> None:
        """Write a part."""
        write_drafts(self.folder.part(number), drafts)

    def drafts(self) -> Iterator[Draft]:
        """Read all parts in their order, once none is missing."""
        for number in self._numbers:
            yield from read_drafts(self.folder.part(number))

    @property
    def _numbers(self) -> range:
        return range(math.ceil(len(self.sentences) / self.size))
