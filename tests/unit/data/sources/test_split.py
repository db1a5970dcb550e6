"""Laws of the split: every row in one part, whatever its neighbours and its place."""

from collections.abc import Iterator
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
    with pytest.raises(UserError, match=r"none of 1 rows falls into the dev part \(fractions dev=0.0, test=0.0\)"):
        list(AnchorSplit(Listed(ROWS[:1]), "dev", dev=0.0, test=0.0))


@pytest.mark.parametrize(("dev", "test"), [(-0.1, 0.5), (0.5, 0.5), (0.0, 1.5)])
def test_impossible_fractions(dev, test):
    with pytest.raises(UserError, match="fractions"):
        AnchorSplit(Listed(ROWS), "train", dev=dev, test=test)


def test_missing_is_passed_on():
    source = Listed([])
    source.missing = "no file x"
    assert AnchorSplit(source, "train", dev=0.1, test=0.1).missing == "no file x"
