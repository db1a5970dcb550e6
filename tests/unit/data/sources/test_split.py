"""Laws of the split: every row in one part, whatever its neighbours and its place."""

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import pytest

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.split import AnchorSplit
from sempa_lightning.errors import UserError

PARTS = ("train", "dev", "test")


class Listed:
    """Rows from a list."""

    missing: str | None = None

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


ROWS = [Row(f"anchor {number}", (f"chosen {copy}",), ("no",)) for number in range(2000) for copy in "ab"]


def parts(rows: list[Row]) -> dict[str, list[Row]]:
    return {part: list(AnchorSplit(Listed(rows), part, dev=0.1, test=0.2)) for part in PARTS}


def test_every_row_is_in_one_part_and_no_anchor_in_two():
    split = parts(ROWS)
    assert sorted(chain.from_iterable(split.values()), key=ROWS.index) == ROWS
    anchors = [{row.anchor for row in split[part]} for part in PARTS]
    assert sum(map(len, anchors)) == len(set.union(*anchors)) == 2000


def test_fractions_are_about_kept():
    sizes = {part: len(rows) / len(ROWS) for part, rows in parts(ROWS).items()}
    # 2000 anchors: three standard deviations are 2.0 and 2.7 percent points
    assert sizes["dev"] == pytest.approx(0.1, abs=0.02)
    assert sizes["test"] == pytest.approx(0.2, abs=0.027)


def test_order_and_other_rows_do_not_matter():
    whole = {row: part for part, rows in parts(ROWS).items() for row in rows}
    some = {row: part for part, rows in parts(ROWS[:600][::-1]).items() for row in rows}
    assert some == {row: whole[row] for row in ROWS[:600]}


def test_rows_stay_in_order():
    assert all(rows == sorted(rows, key=ROWS.index) for rows in parts(ROWS[:400]).values())


def test_white_space_that_cleaning_strips_does_not_matter():
    padded = [Row(f" {row.anchor}\n", row.chosen, row.rejected) for row in ROWS[:400]]
    for part, rows in parts(padded).items():
        assert [row.anchor.strip() for row in rows] == [row.anchor for row in parts(ROWS[:400])[part]]


def test_half_a_surrogate_pair_has_a_part_too():
    rows = [*ROWS[:400], Row("\ud83d", ("b",), ("c",))]
    assert sum(map(len, parts(rows).values())) == 401


def test_an_empty_part_is_an_error():
    expected = (
        r"data.train.dev=0.001, data.train.test=0: none of 2 rows with 1 distinct anchors falls into the dev part"
    )
    with pytest.raises(UserError, match=expected):
        list(AnchorSplit(Listed(ROWS[:2]), "dev", dev=0.001, test=0.0))


def test_rows_that_cannot_be_used_are_counted_once_and_named_where_a_part_is_empty():
    flawed = [Row("a", ("b",), ("c",), flaw="several turns")] * 3
    assert [len(rows) for rows in parts([*ROWS[:400], *flawed]).values()] == [
        len(rows) + 3 * (part == "train") for part, rows in parts(ROWS[:400]).items()
    ]
    with pytest.raises(UserError, match="0 distinct anchors falls into the dev part, 3 dropped: several turns"):
        list(AnchorSplit(Listed(flawed), "dev", dev=0.1, test=0.2))


@pytest.mark.parametrize("part", ["dev", "test"])
def test_a_part_that_holds_no_row_out_is_refused_by_its_key(part):
    AnchorSplit(Listed(ROWS), "train", dev=0.0, test=0.0)
    with pytest.raises(UserError, match=f"data.train.{part}=0: no row is held out.*Set data.train.{part} above 0"):
        AnchorSplit(Listed(ROWS), part, dev=0.0, test=0.0)


def test_the_unicode_form_of_an_anchor_does_not_change_its_part():
    rows = [Row(f"caf\u00e9 {number}", ("b",), ("c",)) for number in range(200)]
    other = [replace(row, anchor=unicodedata.normalize("NFD", row.anchor)) for row in rows]
    assert [len(found) for found in parts(other).values()] == [len(found) for found in parts(rows).values()]
    assert [row.anchor[-2:] for row in parts(other)["dev"]] == [row.anchor[-2:] for row in parts(rows)["dev"]]


@pytest.mark.parametrize(("dev", "test"), [(-0.1, 0.5), (0.5, 0.5), (0.0, 1.5)])
def test_impossible_fractions(dev, test):
    with pytest.raises(UserError, match="fractions"):
        AnchorSplit(Listed(ROWS), "train", dev=dev, test=test)


def test_missing_is_passed_on():
    source = Listed([])
    source.missing = "no file x"
    assert AnchorSplit(source, "train", dev=0.1, test=0.1).missing == "no file x"
