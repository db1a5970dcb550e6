"""From a source to clean rows, with an account of what became of each record."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from sempa_lightning.data.cache import content_hash
from sempa_lightning.data.clean import REJECTED, clean
from sempa_lightning.data.group import group_by_anchor
from sempa_lightning.data.rows import Row, RowSource
from sempa_lightning.errors import UserError


@dataclass(frozen=True)
class Counts:
    """What became of the rows of a source: `read == kept + merged + sum(dropped.values())`.

    Attributes:
        read: Rows that the source gave.
        kept: Rows that are trained on.
        merged: Rows that grouping made part of another row.
        dropped: Rows left out, by reason.
        dropped_rejected: Single rejected candidates left out, by reason.
        anchors: Distinct anchors of the kept rows.
        candidates: How many kept rows have K candidates, by K (chosen included).
        fingerprint: Hash of the kept rows, in their order.
    """

    read: int
    kept: int
    merged: int
    dropped: Mapping[str, int]
    dropped_rejected: Mapping[str, int]
    anchors: int
    candidates: Mapping[int, int]
    fingerprint: str

    def __str__(self) -> str:
        """Tell all of it in one line."""
        line = f"{self.read} rows read, {self.kept} kept"
        if self.kept:
            sizes = ", ".join(f"K={size}: {rows}" for size, rows in self.candidates.items())
            line += f" ({self.anchors} anchors; {sizes})"
        if self.merged:
            line += f", {self.merged} merged"
        for what, reasons in ("rows", self.dropped), ("rejected candidates", self.dropped_rejected):
            if reasons:
                listed = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
                line += f"; {what} dropped: {listed}"
        return line

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "candidates": {str(size): rows for size, rows in self.candidates.items()}}

    def without(self, dropped: Mapping[str, int], rows: Sequence[Row]) -> "Counts":
        """Account for rows that were left out later; `rows` are those that are still kept."""
        return count(rows, self.read, self.merged, {**self.dropped, **dropped}, self.dropped_rejected)


def count(
    rows: Sequence[Row],
    read: int,
    merged: int,
    dropped: Mapping[str, int],
    dropped_rejected: Mapping[str, int],
) -> Counts:
    """Count the kept rows and put the numbers beside those of the rows that were not."""
    sizes = Counter(len(row.chosen) + len(row.rejected) for row in rows)
    return Counts(
        read=read,
        kept=len(rows),
        merged=merged,
        dropped=dropped,
        dropped_rejected=dropped_rejected,
        anchors=len({row.anchor for row in rows}),
        candidates=dict(sorted(sizes.items())),
        fingerprint=content_hash(*(row.id for row in rows)),
    )


def load_rows(
    source: RowSource,
    *,
    group: bool,
    max_rows: int | None = None,
    max_rejected: int | None = None,
    needs_rejected: bool = True,
) -> tuple[list[Row], Counts]:
    """Read, clean and, if `group`, merge the rows of one anchor.

    Args:
        source: Where the rows come from.
        group: Give each row all the rejected of its anchor (see `group_by_anchor`).
        max_rows: Rows read at most, from the first; all when null.
        max_rejected: Rejected candidates of a row at most, from the first, after grouping; all when null.
        needs_rejected: Leave out rows without rejected candidates.

    Raises:
        UserError: If `max_rejected` is not a whole number above 0, the source cannot be read, or no row is usable.
    """
    if max_rejected is not None and not (isinstance(max_rejected, int) and max_rejected > 0):
        raise UserError(f"data.max_rejected={max_rejected} is not a whole number above 0")
    read = 0

    def counted() -> Iterator[Row]:
        nonlocal read
        for row in islice(source, max_rows):
            read += 1
            yield row

    reasons: Counter[str] = Counter()
    cleaned = list(clean(counted(), reasons, needs_rejected=needs_rejected))
    rows = group_by_anchor(cleaned, needs_rejected=needs_rejected) if group else cleaned
    if surplus := sum(len(row.rejected[max_rejected:]) for row in rows) if max_rejected else 0:
        reasons[f"{REJECTED}beyond the first {max_rejected}"] = surplus
        rows = [replace(row, rejected=row.rejected[:max_rejected]) for row in rows]
    distinct = len({(row.anchor, row.chosen) for row in cleaned}) if group else len(cleaned)
    if contradicted := distinct - len(rows):
        reasons["every rejected is chosen for the same anchor elsewhere"] = contradicted
    singles = {reason: number for reason, number in reasons.items() if reason.startswith(REJECTED)}
    counts = count(
        rows,
        read,
        merged=len(cleaned) - distinct,
        dropped={reason: number for reason, number in reasons.items() if reason not in singles},
        dropped_rejected={reason.removeprefix(REJECTED): number for reason, number in singles.items()},
    )
    if not rows:
        raise UserError(f"no usable row in the data: {counts}")
    return rows, counts
