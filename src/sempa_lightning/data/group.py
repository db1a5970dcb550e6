"""Rows of one anchor brought together, so that each chosen meets all the rejected."""

from collections.abc import Iterable

from sempa_lightning.data.rows import Row


def group_by_anchor(rows: Iterable[Row], *, needs_rejected: bool = True) -> list[Row]:
    """Give each row all the rejected texts of its anchor, in the order they were first seen.

    There is one row for each distinct chosen (or ranking of several) of an anchor, in the order they were
    first seen. What is chosen in one row is never rejected in another of the same anchor; a row that this
    leaves without rejected is left out if it `needs_rejected`.

    Example:
        >>> group_by_anchor([Row("a", ("b",), ("x",)), Row("a", ("b",), ("y",)), Row("a", ("x",), ("y",))])
        [Row(anchor='a', chosen=('b',), rejected=('y',)), Row(anchor='a', chosen=('x',), rejected=('y',))]
    """
    chosen: dict[str, dict[tuple[str, ...], None]] = {}
    rejected: dict[str, dict[str, None]] = {}
    for row in rows:
        chosen.setdefault(row.anchor, {})[row.chosen] = None
        rejected.setdefault(row.anchor, {}).update(dict.fromkeys(row.rejected))
    grouped = []
    for anchor, rankings in chosen.items():
        good = {text for ranking in rankings for text in ranking}
        bad = tuple(text for text in rejected[anchor] if text not in good)
        grouped += [Row(anchor, ranking, bad) for ranking in rankings if bad or not needs_rejected]
    return grouped
