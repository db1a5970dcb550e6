"""Triplets in the peers' files, and records that are none."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.triplets import Triplets
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError


def jsonl(tmp_path: Path, *records: object) -> FileTable:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return FileTable(str(file))


def test_simcse_csv(tmp_path):
    file = tmp_path / "nli_for_simcse.csv"
    file.write_text(
        "sent0,sent1,hard_neg\n"
        "you know during the season,You know.,They never met.\n"
        '"One of our number, then.","A ""member"".",No one.\n'
    )
    rows = Triplets(FileTable(str(file)), anchor="sent0", chosen="sent1", rejected="hard_neg")
    assert list(rows) == [
        Row("you know during the season", ("You know.",), ("They never met.",)),
        Row("One of our number, then.", ('A "member".',), ("No one.",)),
    ]
    assert rows.missing is None


def test_nli_jsonl_ignores_other_columns(tmp_path):
    table = jsonl(tmp_path, {"premise": "p", "entailment": "e", "contradiction": "c", "source": "snli-dev"})
    rows = Triplets(table, anchor="premise", chosen="entailment", rejected="contradiction")
    assert list(rows) == [Row("p", ("e",), ("c",))]


def test_lists_keep_their_order(tmp_path):
    table = jsonl(tmp_path, {"anchor": "a", "chosen": ["b", "c"], "rejected": ["z", "d"]})
    rows = Triplets(table, anchor="anchor", chosen="chosen", rejected="rejected")
    assert list(rows) == [Row("a", ("b", "c"), ("z", "d"))]


def test_parquet_lists(tmp_path):
    record = {"anchor": "a", "chosen": "b", "rejected": ["c", "d"]}
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "rows.parquet")
    table = FileTable(str(tmp_path / "rows.parquet"))
    assert list(Triplets(table, anchor="anchor", chosen="chosen", rejected="rejected")) == [
        Row("a", ("b",), ("c", "d"))
    ]


def test_demonstration_file():
    table = FileTable("pkg://sempa_lightning/assets/demo/dev.jsonl")
    rows = list(Triplets(table, anchor="anchor", chosen="chosen", rejected="rejected"))
    assert len(rows) == 254
    assert all(row.chosen and row.rejected for row in rows)


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"a": "x", "c": "y"}, r"record 2 has no column 'r'; it has 'a', 'c'"),
        ({"a": 3, "c": "y", "r": "z"}, "record 2: 'a' is int, not text"),
        ({"a": ["x"], "c": "y", "r": "z"}, "record 2: 'a' is list, not text"),
        ({"a": "x", "c": {"text": "y"}, "r": "z"}, "record 2: 'c' is neither text nor a list of texts"),
        ({"a": "x", "c": "y", "r": [1.5]}, "record 2: 'r' is neither text nor a list of texts"),
    ],
)
def test_record_that_is_no_triplet(tmp_path, record, complaint):
    table = jsonl(tmp_path, {"a": "x", "c": "y", "r": "z"}, record)
    with pytest.raises(UserError, match=complaint) as error:
        list(Triplets(table, anchor="a", chosen="c", rejected="r"))
    assert table.name in str(error.value)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_missing_value_is_an_empty_text(tmp_path, suffix):
    records = [{"a": None, "c": "y", "r": ["z"]}, {"a": "x", "c": None, "r": None}, {"a": "x", "c": "y", "r": [None]}]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text(
            "".join(json.dumps(record) + "\n" for record in [*records, {"a": math.nan, "c": "y", "r": "z"}])
        )
    expected = [Row("", ("y",), ("z",)), Row("x", ("",), ("",)), Row("x", ("y",), ("",)), Row("", ("y",), ("z",))]
    rows = list(Triplets(FileTable(str(path)), anchor="a", chosen="c", rejected="r"))
    assert rows == expected[: len(rows)]
    assert len(rows) == (3 if suffix == "parquet" else 4)


def test_missing_file_is_told_before_reading(tmp_path):
    rows = Triplets(FileTable(str(tmp_path / "none.csv")), anchor="a", chosen="b", rejected="c")
    assert "none.csv" in (rows.missing or "")
