"""Grouping by hand."""

from sempa_lightning.data.group import group_by_anchor
from sempa_lightning.data.rows import Row


def test_every_chosen_meets_every_rejected_of_its_anchor():
    rows = [
        Row("a", ("b",), ("x", "y")),
        Row("other", ("b",), ("z",)),
        Row("a", ("c",), ("y", "w")),
        Row("a", ("b",), ("v",)),
    ]
    assert group_by_anchor(rows) == [
        Row("a", ("b",), ("x", "y", "w", "v")),
        Row("a", ("c",), ("x", "y", "w", "v")),
        Row("other", ("b",), ("z",)),
    ]


def test_what_is_chosen_once_is_never_rejected():
    rows = [Row("a", ("b",), ("c", "x")), Row("a", ("c",), ("b",))]
    assert group_by_anchor(rows) == [Row("a", ("b",), ("x",)), Row("a", ("c",), ("x",))]


def test_anchor_without_a_rejected_left_is_left_out():
    assert group_by_anchor([Row("a", ("b",), ("c",)), Row("a", ("c",), ("b",))]) == []


def test_where_no_rejected_is_needed_such_anchors_stay():
    rows = [Row("a", ("b",), ("c",)), Row("a", ("c",), ("b",)), Row("d", ("e",), ())]
    bare = [Row("a", ("b",), ()), Row("a", ("c",), ()), Row("d", ("e",), ())]
    assert group_by_anchor(rows, need_rejected=False) == bare


def test_rankings_stay_whole():
    rows = [Row("a", ("b", "c"), ("x",)), Row("a", ("b",), ("c", "y"))]
    assert group_by_anchor(rows) == [Row("a", ("b", "c"), ("x", "y")), Row("a", ("b",), ("x", "y"))]


def test_grouping_twice_changes_nothing():
    rows = [Row("a", ("b",), ("x",)), Row("a", ("c",), ("y",)), Row("d", ("e",), ("f",))]
    once = group_by_anchor(rows)
    assert group_by_anchor(once) == once
