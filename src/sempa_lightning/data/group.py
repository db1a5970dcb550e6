"""Rows of one anchor brought together, so that each chosen meets all the rejected."""

from collections.abc import Iterable

from sempa_lightning.data.flaw import composed
from sempa_lightning.data.rows import Row


def group_by_anchor(rows: Iterable[Row], *, need_rejected: bool = True) -> list[Row]:
    """Give each row all the rejected texts of its anchor, in the order they were first seen.

    There is one row for each distinct chosen (or ranking of several) of an anchor, in the order they were
    first seen. What is chosen in one row is never rejected in another of the same anchor; a row that this
    leaves without rejected is left out where one is needed. Candidates are equal if they are so in Unicode
    normalisation form C.

    Example:
        >>> group_by_anchor([Row("a", ("b",), ("x",)), Row("a", ("b",), ("y",)), Row("a", ("x",), ("y",))])
        [Row(anchor='a', chosen=('b',), rejected=('y',)), Row(anchor='a', chosen=('x',), rejected=('y',))]
    """
    chosen: dict[str, dict[tuple[str, ...], None]] = {}
    rejected: dict[str, dict[str, str]] = {}
    for row in rows:
        chosen.setdefault(row.anchor, {})[row.chosen] = None
        of_anchor = rejected.setdefault(row.anchor, {})
        for text in row.rejected:
            of_anchor.setdefault(composed(text), text)
    grouped = []
    for anchor, rankings in chosen.items():
        good = {composed(text) for ranking in rankings for text in ranking}
        bad = tuple(text for words, text in rejected[anchor].items() if words not in good)
        grouped += [Row(anchor, ranking, bad) for ranking in rankings if bad or not need_rejected]
    return grouped
