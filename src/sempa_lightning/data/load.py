"""From a source to clean rows, with an account of what became of each record."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from sempa_lightning.check import check_count
from sempa_lightning.data.cache import ContentHash
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

    def without(self, dropped: Mapping[str, int], rows: Iterable[Row]) -> "Counts":
        """Account for rows that were left out later; `rows` are those that are still kept."""
        kept = _Kept()
        for row in rows:
            kept.add(row)
        return kept.counts(self.read, self.merged, {**self.dropped, **dropped}, self.dropped_rejected)


class _Kept:
    """What is told of the rows that are kept, without keeping them."""

    def __init__(self) -> None:
        self._sizes: Counter[int] = Counter()
        self._anchors: set[int] = set()  # hashes, which take a fraction of the memory
        self._ids = ContentHash()

    def add(self, row: Row) -> None:
        """Take the next row."""
        self._sizes[len(row.chosen) + len(row.rejected)] += 1
        self._anchors.add(hash(row.anchor))
        self._ids.add(row.id)

    def counts(self, read: int, merged: int, dropped: Mapping[str, int], dropped_rejected: Mapping[str, int]) -> Counts:
        """These numbers beside those of the rows that are not kept."""
        return Counts(
            read=read,
            kept=self._sizes.total(),
            merged=merged,
            dropped=dropped,
            dropped_rejected=dropped_rejected,
            anchors=len(self._anchors),
            candidates=dict(sorted(self._sizes.items())),
            fingerprint=str(self._ids),
        )


class CleanRows:
    """The usable rows of a source, merged if `group`; each pass reads and cleans them anew.

    A pass holds a hash of each row, no more, so that a source may be larger than memory; but for `group`, which takes
    all rows at once.

    Args:
        source: Where the rows come from.
        group: Give each row all the rejected of its anchor (see `group_by_anchor`).
        max_rows: Rows read at most, from the first; all when null.
        max_rejected: Rejected candidates of a row at most, from the first, after grouping; all when null.
        need_rejected: Whether rows without a rejected candidate are left out.

    Raises:
        UserError: If a limit is not a whole number above 0; by a pass, if the source cannot be read or no row is
            usable.
    """

    def __init__(
        self,
        source: RowSource,
        *,
        group: bool,
        max_rows: int | None = None,
        max_rejected: int | None = None,
        need_rejected: bool = True,
    ) -> None:
        for name, limit in {"max_rows": max_rows, "max_rejected": max_rejected}.items():
            if limit is not None:
                check_count(f"data.{name}", limit)
        self._source = source
        self._group = group
        self._max_rows = max_rows
        self._max_rejected = max_rejected
        self._need_rejected = need_rejected
        self._counts: Counts | None = None

    @property
    def counts(self) -> Counts:
        """What became of each record in the last full pass; there must have been one."""
        assert self._counts is not None
        return self._counts

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in their order."""
        kept, reasons, merged, read = _Kept(), Counter[str](), 0, 0

        def counted() -> Iterator[Row]:
            nonlocal read
            for row in islice(self._source, self._max_rows):
                read += 1
                yield row

        rows = clean(counted(), reasons, need_rejected=self._need_rejected)
        if self._group:
            rows, merged = self._grouped(list(rows), reasons)
        for row in rows:
            cut = self._cut(row, reasons)
            kept.add(cut)
            yield cut
        singles = {reason: number for reason, number in reasons.items() if reason.startswith(REJECTED)}
        self._counts = kept.counts(
            read,
            merged,
            dropped={reason: number for reason, number in reasons.items() if reason not in singles},
            dropped_rejected={reason.removeprefix(REJECTED): number for reason, number in singles.items()},
        )
        if not self._counts.kept:
            raise UserError(f"no usable row in the data: {self._counts}")

    def _grouped(self, cleaned: list[Row], reasons: Counter[str]) -> tuple[Iterator[Row], int]:
        """The rows of each anchor brought together, and how many became part of another."""
        rows = group_by_anchor(cleaned, need_rejected=self._need_rejected)
        distinct = len({(row.anchor, row.chosen) for row in cleaned})
        if contradicted := distinct - len(rows):
            reasons["every rejected is chosen for the same anchor elsewhere"] = contradicted
        return iter(rows), len(cleaned) - distinct

    def _cut(self, row: Row, reasons: Counter[str]) -> Row:
        """The row with as many rejected as it may have."""
        if not (self._max_rejected and row.rejected[self._max_rejected :]):
            return row
        reasons[f"{REJECTED}beyond the first {self._max_rejected}"] += len(row.rejected) - self._max_rejected
        return replace(row, rejected=row.rejected[: self._max_rejected])
