"""Each cleaning rule on a row that breaks it alone."""

from collections import Counter

import pytest

from sempa_lightning.data.clean import clean
from sempa_lightning.data.rows import Row


def cleaned(*rows: Row) -> tuple[list[Row], dict[str, int]]:
    dropped: Counter[str] = Counter()
    return list(clean(rows, dropped)), dict(dropped)


def test_white_space_is_stripped():
    assert cleaned(Row(" a\n", ("\tb ",), ("c\u00a0",))) == ([Row("a", ("b",), ("c",))], {})


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("nan", "is nan"),
        (" NaN ", "is nan"),
        ("a\x00b", "has NUL characters"),
        ("a\x1b[0m", "has control characters"),
        ("half \ud83d", "has half of a surrogate pair"),
        ("long" * 250_001, "has more than 1,000,000 characters"),
        ("\u200b\u2060\ufeff \u3164", "empty"),
        ("\u00ad\ufe0f", "empty"),
    ],
)
def test_unusable_text(text, flaw):
    good = Row("a", ("b",), ("c",))
    assert cleaned(Row(text, ("b",), ("c",)), good) == ([good], {f"anchor {flaw}": 1})
    assert cleaned(Row("a", (text,), ("c",)), good) == ([good], {f"chosen {flaw}": 1})
    assert cleaned(Row("a", ("b", text), ("c",)), good) == ([good], {f"chosen {flaw}": 1})
    assert cleaned(Row("a", ("b",), (text, "c"))) == ([good], {f"rejected candidate: {flaw}": 1})


@pytest.mark.parametrize("text", ["banana", "nan bread", "two\nlines", "a\tb", "\u200f\u05d0", "\U0001f600"])
def test_usable_text(text):
    row = Row(text, (text + "!",), (text + "?",))
    assert cleaned(row) == ([row], {})


def test_rejected_equal_to_a_chosen_or_repeated():
    rows, dropped = cleaned(Row("a", ("b", "c"), ("d", "c ", "d", "e", " b", "d")))
    assert rows == [Row("a", ("b", "c"), ("d", "e"))]
    assert dropped == {"rejected candidate: equal to a chosen": 2, "rejected candidate: repeated": 2}


def test_texts_are_equal_in_any_unicode_form():
    composed, parted = "Caf\u00e9.", "Cafe\u0301."
    rows, dropped = cleaned(
        Row("a", (composed, parted), (parted, "d", f"{parted} Yes.", f"{composed} Yes.")), Row("a", (parted,), ("d",))
    )
    assert rows == [Row("a", (composed,), ("d", f"{parted} Yes.")), Row("a", (parted,), ("d",))]
    assert dropped == {"rejected candidate: equal to a chosen": 1, "rejected candidate: repeated": 1}
    assert cleaned(Row("a", (composed,), ("d",)), Row("a", (parted,), ("d",)))[1] == {"duplicate row": 1}


def test_a_row_with_a_flaw_of_its_source_is_counted_by_it():
    good = Row("a", ("b",), ("c",))
    assert cleaned(Row("a", ("b",), ("", "c"), flaw="several turns"), good) == ([good], {"several turns": 1})


def test_the_anchor_may_be_rejected():
    row = Row("a", ("b",), ("a",))
    assert cleaned(row) == ([row], {})


def test_rows_without_rejected_are_kept_where_none_is_needed():
    dropped: Counter[str] = Counter()
    rows = [Row("a", ("b",), ()), Row("a", ("c",), ("c", "nan")), Row("a", ("", "b"), ()), Row("a", ("b",), ())]
    assert list(clean(rows, dropped, need_rejected=False)) == [Row("a", ("b",), ()), Row("a", ("c",), ())]
    assert dropped == {
        "rejected candidate: equal to a chosen": 1,
        "rejected candidate: is nan": 1,
        "chosen empty": 1,
        "duplicate row": 1,
    }


def test_rows_left_without_rejected_are_told_from_those_that_never_had_any():
    rows, dropped = cleaned(Row("a", ("b",), ()), Row("a", ("b",), ("b", "nan")))
    assert rows == []
    assert dropped == {
        "no rejected": 1,
        "no usable rejected": 1,
        "rejected candidate: equal to a chosen": 1,
        "rejected candidate: is nan": 1,
    }


def test_no_chosen():
    assert cleaned(Row("a", (), ("b",))) == ([], {"no chosen": 1})


def test_exact_duplicates_are_dropped_and_near_ones_kept():
    row = Row("a", ("b",), ("c", "d"))
    other = Row("a", ("b",), ("d", "c"))
    assert cleaned(row, Row(" a", ("b",), ("c", "c", "d ")), other) == (
        [row, other],
        {"rejected candidate: repeated": 1, "duplicate row": 1},
    )
