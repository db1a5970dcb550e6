"""A corpus cut into parts, each of which is a file when it is done."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from jaxtyping import Float
from torch import Tensor

from sempa_lightning.artifacts import EmbeddingDir
from sempa_lightning.checksums import checksum, discard
from sempa_lightning.embedding.corpus import Survey
from sempa_lightning.embedding.shard import Shard
from sempa_lightning.errors import UserError
from sempa_lightning.files import replacing

_KEY = b"sempa_lightning"
# All that reading a damaged file raises.
_UNREADABLE = (pyarrow.ArrowException, OSError, LookupError, TypeError, ValueError)


class About(NamedTuple):
    """What a part says of itself, in the metadata of its file.

    Attributes:
        corpus: Fingerprint of the corpus.
        weights: Hash of what the model computes (`weights_name`).
        width: Length of a vector.
        truncated: How many texts of the part were too long for the model's context.
    """

    corpus: str
    weights: str
    width: int
    truncated: int


@dataclass(frozen=True)
class Parts:
    """Fixed ranges of rows, so that a part is the same whoever writes it; what is not in the folder is to do.

    Attributes:
        folder: Where they are written.
        survey: What is known of the corpus.
        size: Rows of a part; the last one has what is left.
        shard: The share of this process: of `shares` parts in a row, the one at its `place`.
    """

    folder: EmbeddingDir
    survey: Survey
    size: int
    shard: Shard

    @property
    def all(self) -> range:
        """Numbers of all parts of the corpus."""
        return range(math.ceil(self.survey.rows / self.size))

    @property
    def own(self) -> range:
        """Numbers of the parts of this process's share."""
        return self.all[self.shard.place :: self.shard.shares]

    @property
    def rest(self) -> list[int]:
        """Those of them that are to do."""
        return [number for number in self.own if not self.folder.part(number).is_file()]

    def rows(self, number: int) -> range:
        """The rows of a part, counted from 0."""
        return range(self.survey.rows)[number * self.size : (number + 1) * self.size]

    def remove_damaged(self) -> None:
        """Remove the parts of this process's share that do not hold what was written: they are to do again."""
        for path in map(self.folder.part, self.own):
            if path.is_file() and not is_whole(path):
                discard(path, "embedding its texts again")

    def read(self, numbers: Sequence[int], weights: str | None = None) -> list[About]:
        """What those of the parts say that are there.

        Raises:
            UserError: If one is of another corpus or, where they are given, of other weights.
        """
        paths = [path for path in map(self.folder.part, numbers) if path.is_file()]
        found = [read_about(path) for path in paths]
        for path, about in zip(paths, found, strict=True):
            if about.corpus != self.survey.fingerprint:
                raise UserError(f"{path} holds vectors of another corpus: name a new folder with hydra.run.dir=…")
            if weights is not None and about.weights != weights:
                raise UserError(f"{path} was made with other weights: name a new folder with hydra.run.dir=…")
        return found


def _checksum(table: pyarrow.Table, about: About) -> str:
    """Cover all that a reader gets: the columns, and what the part says of itself."""
    vectors = table["vector"].combine_chunks()
    texts = table["text"].to_pylist() if "text" in table.column_names else None
    said = json.dumps([about, str(vectors.type.value_type), vectors.type.list_size, texts]).encode()
    numbers = [table["row"].to_numpy(), vectors.flatten().to_numpy()]
    return checksum(_KEY.decode(), said, *(memoryview(column).cast("B") for column in numbers))


def write_part(
    path: Path, rows: range, texts: Sequence[str] | None, vectors: Float[Tensor, "rows width"], about: About
) -> None:
    """Write a part: the columns `row`, `text` (if given) and `vector`, a list of fixed size; all of it or nothing.

    The bytes follow from the arguments alone, and the version of pyarrow.

    Raises:
        UserError: If a vector is not finite.
    """
    if not (finite := vectors.isfinite().all(1)).all():
        row = rows[int(finite.long().argmin())]
        raise UserError(
            f"the vector of row {row} is not finite in {vectors.dtype}: set dtype=float32, or look at its text"
        )
    flat = pyarrow.array(vectors.reshape(-1).numpy())
    columns = {"row": pyarrow.array(rows, pyarrow.int64())}
    columns |= {} if texts is None else {"text": pyarrow.array(texts, pyarrow.string())}
    columns |= {"vector": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    table = pyarrow.table(columns)
    said = about._asdict() | {"checksum": _checksum(table, about)}
    table = table.replace_schema_metadata({_KEY: json.dumps(said)})
    with replacing(path) as temporary:
        # Hardly a number comes twice. No checksum covers statistics, which some readers use to skip rows.
        pyarrow.parquet.write_table(table, temporary, use_dictionary=False, write_statistics=False)


def is_whole(path: Path) -> bool:
    """Check a part against its checksum; one without, of an earlier version, must be readable to its end."""
    try:
        written, about = _read_said(path)
        found = _checksum(pyarrow.parquet.read_table(path), about)
    except (*_UNREADABLE, AttributeError):
        return False
    return written in (None, found)


def read_about(path: Path) -> About:
    """Read what a part says of itself.

    Raises:
        UserError: If the file is none.
    """
    try:
        return _read_said(path)[1]
    except _UNREADABLE as error:
        raise UserError(f"{path} is no part that this command has written: remove it and run again") from error


def _read_said(path: Path) -> tuple[str | None, About]:
    """Read the checksum of a part, if it has one, and what it says of itself."""
    said = json.loads((pyarrow.parquet.read_schema(path).metadata or {})[_KEY])
    return said.pop("checksum", None), About(**said)
