"""What is taken out of raw rows before anything is trained on them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from sempa_lightning.data.rows import Row

# All control characters but tab and line breaks, and halves of surrogate pairs, which JSON can hold.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

REJECTED = "rejected candidate: "
"""What the reasons begin with that count single rejected candidates instead of whole rows."""


def clean(rows: Iterable[Row], dropped: Counter[str], *, needs_rejected: bool = True) -> Iterator[Row]:
    """Yield usable rows, white space stripped; add what was left out, by reason, to `dropped`.

    A text is unusable if it is empty, is the word `nan` (an empty cell that pandas has read; the paper's
    code trains on it) or holds control characters other than tabs and line breaks. A row with an unusable
    anchor or chosen text is dropped whole; of the rejected, single ones are: unusable ones, those equal to a
    chosen text, and repetitions. A row that has no rejected, as given or after that, is dropped if it
    `needs_rejected`, and so is one that came before in the same words.
    """
    seen: set[str] = set()
    for raw in rows:
        chosen = tuple(dict.fromkeys(text.strip() for text in raw.chosen))
        rejected = tuple(_usable(raw.rejected, chosen, dropped))
        row = Row(raw.anchor.strip(), chosen, rejected)
        reason = _row_flaw(row) or (_lacks_rejected(row, raw) if needs_rejected else None)
        if reason is None and row.id in seen:
            reason = "duplicate row"
        if reason is None:
            seen.add(row.id)
            yield row
        else:
            dropped[reason] += 1


def _usable(rejected: Iterable[str], chosen: tuple[str, ...], dropped: Counter[str]) -> Iterator[str]:
    kept: set[str] = set()
    for text in (raw.strip() for raw in rejected):
        reason = _flaw(text)
        if reason is None and text in chosen:
            reason = "equal to a chosen"
        if reason is None and text in kept:
            reason = "repeated"
        if reason is None:
            kept.add(text)
            yield text
        else:
            dropped[REJECTED + reason] += 1


def _row_flaw(row: Row) -> str | None:
    for what, text in (("anchor", row.anchor), *(("chosen", text) for text in row.chosen)):
        if flaw := _flaw(text):
            return f"{what} {flaw}"
    return None if row.chosen else "no chosen"


def _lacks_rejected(row: Row, raw: Row) -> str | None:
    if row.rejected:
        return None
    return "no usable rejected" if raw.rejected else "no rejected"


def _flaw(text: str) -> str | None:
    if not text:
        return "empty"
    if text.lower() == "nan":
        return "is nan"
    return "has control characters" if _CONTROL.search(text) else None
