"""What is taken out of raw rows before anything is trained on them."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator

from sempa_lightning.data.flaw import composed, flaw
from sempa_lightning.data.rows import Row

REJECTED = "rejected candidate: "
"""What the reasons begin with that count single rejected candidates instead of whole rows."""


def clean(rows: Iterable[Row], dropped: Counter[str], *, need_rejected: bool = True) -> Iterator[Row]:
    """Yield usable rows, white space stripped; add what was left out, by reason, to `dropped`.

    A row with an unusable anchor or chosen text (see `flaw`), or with a flaw that its source has found, is dropped
    whole; of the rejected, single ones are: unusable ones, those equal to a chosen text, and repetitions. A row that
    has no rejected, as given or after that, is dropped where one is needed, and so is one that came before in the same
    words. Texts are equal if they are so in Unicode normalisation form C; each stays as it is written.
    """
    seen: set[str] = set()
    for raw in rows:
        if raw.flaw:
            dropped[raw.flaw] += 1
            continue
        chosen = _distinct(text.strip() for text in raw.chosen)
        rejected = tuple(_usable(raw.rejected, chosen, dropped))
        row = Row(raw.anchor.strip(), tuple(chosen.values()), rejected)
        words = Row(composed(row.anchor), tuple(chosen), tuple(map(composed, rejected))).id
        reason = _row_flaw(row, raw, need_rejected)
        if reason is None and words in seen:
            reason = "duplicate row"
        if reason is None:
            seen.add(words)
            yield row
        else:
            dropped[reason] += 1


def _distinct(texts: Iterable[str]) -> dict[str, str]:
    """The first of equal texts, by its normal form."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(composed(text), text)
    return found


def _usable(rejected: Iterable[str], chosen: Container[str], dropped: Counter[str]) -> Iterator[str]:
    kept: set[str] = set()
    for text in (raw.strip() for raw in rejected):
        reason, words = flaw(text), composed(text)
        if reason is None and words in chosen:
            reason = "equal to a chosen"
        if reason is None and words in kept:
            reason = "repeated"
        if reason is None:
            kept.add(words)
            yield text
        else:
            dropped[REJECTED + reason] += 1


def _row_flaw(row: Row, raw: Row, need_rejected: bool) -> str | None:
    for what, text in (("anchor", row.anchor), *(("chosen", text) for text in row.chosen)):
        if reason := flaw(text):
            return f"{what} {reason}"
    if not row.chosen:
        return "no chosen"
    if need_rejected and not row.rejected:
        return "no usable rejected" if raw.rejected else "no rejected"
    return None
