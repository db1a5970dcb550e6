"""Parts of a corpus as files: which rows, what they hold, and what is refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sempa_lightning.artifacts import EmbeddingDir
from sempa_lightning.embedding.corpus import Survey
from sempa_lightning.embedding.parts import About, Parts, read_about, write_part
from sempa_lightning.embedding.shard import Shard
from sempa_lightning.errors import UserError

ABOUT = About(corpus="c", weights="w", width=3, truncated=1)
VECTORS = torch.tensor([[0.5, -1.0, 2.0], [3.25, 0.0, 65504.0]])


def parts(folder, rows=25, shard=Shard(0, 1), corpus="c"):  # noqa: B008 (a tuple)
    return Parts(EmbeddingDir(folder), Survey(rows, corpus), 10, shard)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_written_is_read(tmp_path, dtype):
    path = tmp_path / "part.parquet"
    write_part(path, range(40, 42), ["a", "ü"], VECTORS.to(dtype), ABOUT)
    table = pq.read_table(path)
    numbers = pa.float32() if dtype == torch.float32 else pa.float16()
    assert table.schema.names == ["row", "text", "vector"]
    assert table.schema.types == [pa.int64(), pa.string(), pa.list_(numbers, 3)]
    assert table["row"].to_pylist() == [40, 41]
    assert table["text"].to_pylist() == ["a", "ü"]
    assert table["vector"].to_pylist() == VECTORS.tolist()
    assert read_about(path) == ABOUT
    assert [file.name for file in tmp_path.iterdir()] == ["part.parquet"]


def test_the_bytes_follow_from_the_content_and_texts_may_stay_away(tmp_path):
    for name in "ab":
        write_part(tmp_path / name, range(2), None, VECTORS, ABOUT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pq.read_schema(tmp_path / "a").names == ["row", "vector"]


def test_a_vector_that_is_not_finite_names_its_row_and_nothing_is_written(tmp_path):
    path = tmp_path / "part.parquet"
    with pytest.raises(UserError, match=r"the vector of row 41 is not finite in torch\.float16: set dtype=float32"):
        write_part(path, range(40, 42), None, (2 * VECTORS).half(), ABOUT)
    assert not path.exists()


def test_parts_are_ranges_of_rows_and_shares_hold_each_once(tmp_path):
    whole = parts(tmp_path)
    assert [whole.rows(number) for number in whole.all] == [range(10), range(10, 20), range(20, 25)]
    assert len(parts(tmp_path, rows=20).all) == 2
    shares = [list(parts(tmp_path, shard=Shard(index, 2)).own) for index in range(2)]
    assert shares == [[0, 2], [1]]
    assert list(parts(tmp_path, shard=Shard(4, 5)).own) == []


def test_what_is_there_is_not_to_do(tmp_path):
    write_part(EmbeddingDir(tmp_path).part(1), range(10, 12), None, VECTORS, ABOUT)
    assert parts(tmp_path).rest == [0, 2]
    assert parts(tmp_path, shard=Shard(1, 2)).rest == []


def test_parts_of_something_else_are_refused(tmp_path):
    path = EmbeddingDir(tmp_path).part(0)
    write_part(path, range(2), None, VECTORS, ABOUT)
    assert parts(tmp_path).read(range(3), "w") == [ABOUT]
    with pytest.raises(UserError, match="holds vectors of another corpus: name a new folder"):
        parts(tmp_path, corpus="d").read(range(3))
    with pytest.raises(UserError, match="was made with other weights: name a new folder"):
        parts(tmp_path).read(range(3), "x")
    for content in pq.write_table(pa.table({"a": [1]}), path), path.write_bytes(b"PAR1"):
        del content
        with pytest.raises(UserError, match="is no part that this command has written: remove it and run again"):
            read_about(path)
