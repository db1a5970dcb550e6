"""The account of what became of each record."""

import json
import os
import tracemalloc
from collections import defaultdict
from pathlib import Path

import pytest

from sempa_lightning.data.load import CleanRows
from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.triplets import Triplets
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError


def load(source, **settings):
    """The rows, and what became of each record."""
    rows = CleanRows(source, **settings)
    return list(rows), rows.counts


def source(tmp_path: Path, *records: tuple[str, str, str]) -> Triplets:
    file = tmp_path / "rows.jsonl"
    lines = (json.dumps(dict(zip(("anchor", "chosen", "rejected"), record, strict=True))) for record in records)
    file.write_text("\n".join(lines))
    return Triplets(FileTable(str(file)), anchor="anchor", chosen="chosen", rejected="rejected")


RECORDS = [
    ("a", "b", "x"),
    ("a", "b", "y"),
    ("a", "b", "y"),
    ("a", "c", "nan"),
    ("", "c", "x"),
    ("d", "e", "f"),
    ("d", "f", "e"),
    ("g", "h", "i"),
]


def test_account_without_grouping(tmp_path):
    rows, counts = load(source(tmp_path, *RECORDS), group=False)
    assert [row.anchor for row in rows] == ["a", "a", "d", "d", "g"]
    assert counts.as_dict() == {
        "read": 8,
        "kept": 5,
        "merged": 0,
        "dropped": {"duplicate row": 1, "no usable rejected": 1, "anchor empty": 1},
        "dropped_rejected": {"is nan": 1},
        "anchors": 3,
        "candidates": {"2": 5},
        "fingerprint": counts.fingerprint,
    }


def test_account_with_grouping_in_one_line(tmp_path):
    rows, counts = load(source(tmp_path, *RECORDS), group=True)
    assert rows == [Row("a", ("b",), ("x", "y")), Row("g", ("h",), ("i",))]
    assert counts.read == counts.kept + counts.merged + sum(counts.dropped.values())
    assert str(counts) == (
        "8 rows read, 2 kept (2 anchors; K=2: 1, K=3: 1), 1 merged; rows dropped: 1 duplicate row,"
        " 1 no usable rejected, 1 anchor empty, 2 every rejected is chosen for the same anchor elsewhere;"
        " rejected candidates dropped: 1 is nan"
    )


def test_max_rows_counts_rows_read(tmp_path):
    _, counts = load(source(tmp_path, *RECORDS), group=False, max_rows=3)
    assert (counts.read, counts.kept) == (3, 2)


def test_max_rejected_keeps_the_first_after_grouping_and_counts_the_others(tmp_path):
    records = [("a", "b", rejected) for rejected in "xyz"] + [("d", "e", "f")]
    rows, counts = load(source(tmp_path, *records), group=True, max_rejected=2)
    assert [row.rejected for row in rows] == [("x", "y"), ("f",)]
    assert counts.candidates == {2: 1, 3: 1}
    assert str(counts).endswith("; rejected candidates dropped: 1 beyond the first 2")
    all_rows, all_counts = load(source(tmp_path, *records), group=True, max_rejected=3)
    assert (all_rows[0].rejected, all_counts.dropped_rejected) == (("x", "y", "z"), {})
    assert rows[0].id != all_rows[0].id, "a shorter list is another row"


@pytest.mark.parametrize("name", ["max_rows", "max_rejected"])
@pytest.mark.parametrize("number", [0, -1, True])
def test_a_limit_must_be_a_number(tmp_path, name, number):
    with pytest.raises(UserError, match=f"data.{name}={number} is not a whole number above 0"):
        load(source(tmp_path, *RECORDS), group=False, **{name: number})


def test_fingerprint_follows_text_and_order(tmp_path):
    same = [load(source(tmp_path, ("a", "b", "c"), ("d", "e", "f")), group=True)[1].fingerprint for _ in "12"]
    other = load(source(tmp_path, ("d", "e", "f"), ("a", "b", "c")), group=True)[1].fingerprint
    assert same[0] == same[1] != other


def test_nothing_left_lists_the_reasons(tmp_path):
    with pytest.raises(UserError, match=r"no usable row in the data: 2 rows read, 0 kept.*1 chosen is nan"):
        load(source(tmp_path, ("a", "nan", "b"), ("a", "b", "b")), group=True)


@pytest.mark.real_data
@pytest.mark.skipif("SEMPA_DATA_DIR" not in os.environ, reason="SEMPA_DATA_DIR is not set")
def test_nli_triplets():
    file = Path(os.environ["SEMPA_DATA_DIR"]) / "nli" / "nli_triplets.jsonl"
    triplets = Triplets(FileTable(str(file)), anchor="premise", chosen="entailment", rejected="contradiction")
    rows, counts = load(triplets, group=True)
    assert counts.read == counts.kept + counts.merged + sum(counts.dropped.values()) == 15887

    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({record["premise"] for record in records}) == 12682
    good, bad = defaultdict(set), defaultdict(set)
    for record in records:
        anchor, chosen, rejected = (record[key].strip() for key in ("premise", "entailment", "contradiction"))
        if chosen != rejected:
            good[anchor].add(chosen)
            bad[anchor].add(rejected)
    lists = {
        (anchor, chosen, *sorted(bad[anchor] - good[anchor]))
        for anchor in good
        for chosen in good[anchor]
        if bad[anchor] - good[anchor]
    }
    assert {(row.anchor, *row.chosen, *sorted(row.rejected)) for row in rows} == lists
    assert counts.kept == len(rows) == len(lists)
    assert counts.anchors == 12681  # the rejected of one premise is its chosen
    assert counts.candidates == {2: 12866, 3: 887, 4: 29, 6: 218, 7: 11}


def test_rows_without_rejected_count_as_kept_where_none_is_needed(tmp_path):
    rows, counts = load(source(tmp_path, *RECORDS), group=True, need_rejected=False)
    assert rows == [
        Row("a", ("b",), ("x", "y")), Row("a", ("c",), ("x", "y")), Row("d", ("e",), ()), Row("d", ("f",), ()),
        Row("g", ("h",), ("i",)),
    ]  # fmt: skip
    assert counts.read == counts.kept + counts.merged + sum(counts.dropped.values())
    assert counts.as_dict()["candidates"] == {"1": 2, "2": 1, "3": 2}


def test_each_pass_reads_anew(tmp_path):
    rows = CleanRows(source(tmp_path, *RECORDS), group=False)
    first, counts = list(rows), rows.counts
    assert list(rows) == first
    assert rows.counts == counts
    source(tmp_path, *RECORDS[:1])
    assert list(rows) == first[:1]
    assert rows.counts.read == 1


def test_memory_does_not_grow_with_the_text(tmp_path):
    """Three megabytes of text pass through; what stays is a hash of each row and a piece of the file."""
    rows = CleanRows(source(tmp_path, *((f"{number} " * 4000, "b", "c") for number in range(200))), group=False)
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows) == 200
        assert tracemalloc.get_traced_memory()[1] < 0.5e6
    finally:
        tracemalloc.stop()
