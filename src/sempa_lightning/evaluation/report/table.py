"""Tables as every format shows them: text, the number behind it, and what is worth a look."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sempa_lightning.evaluation.report.comparison import Change, Value
from sempa_lightning.evaluation.report.metric import Display, shown
from sempa_lightning.metrics.direction import Better

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: As it is shown.
        value: The number, in the unit shown; None for text.
        error: Its standard error, or standard deviation over seeds.
        low: Lower end of its 95 % interval.
        high: Upper end.
        mood: Whether a change is clearly for the better or for the worse.
        best: Whether it is the best of its column.
    """

    text: str
    value: float | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    mood: Literal["better", "worse"] | None = None
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row of cells; lines that follow each other with one `group` share its heading.

    Attributes:
        label: Its name.
        cells: One for each column.
        group: What it belongs to.
        links: Names and addresses of folders, which a page shows for the label.
        colour: Its colour in charts.
    """

    label: str
    cells: tuple[Cell, ...]
    group: str = ""
    links: tuple[tuple[str, str], ...] = ()
    colour: str | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key: Its name in files.
        title: Its heading.
        columns: Headings of the cells.
        lines: The rows.
        stub: Heading of the labels.
        notes: What a reader must know, below the table.
        textual: Whether cells are texts, which are set to the left.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    stub: str = ""
    notes: tuple[str, ...] = ()
    textual: bool = False


def text_cell(text: object) -> Cell:
    """A cell of words."""
    return Cell(NOTHING if text is None or text == "" else str(text))


def value_cell(value: Value | None, how: Display) -> Cell:
    """A number, with its standard deviation over seeds."""
    if value is None:
        return Cell(NOTHING)
    text = how.number(value.mean)
    if value.sd is None:
        return Cell(text, value.mean * how.scale)
    return Cell(f"{text} ± {how.number(value.sd)}", value.mean * how.scale, value.sd * how.scale)


def change_cell(change: Change | None, how: Display) -> Cell:
    """A signed number with its error; its mood is that of an interval which leaves 0 out."""
    if change is None:
        return Cell(NOTHING)
    value, error, low, high = change.scaled(how.scale)
    text = shown(value, how.digits, sign=True)
    return Cell(
        text if error is None else f"{text} ± {shown(error, how.digits)}",
        value,
        error,
        low,
        high,
        mood(change, how.better),
    )


def interval_text(cell: Cell, digits: int) -> str | None:
    """The 95 % interval of a change; None where it has none."""
    if cell.low is None or cell.high is None:
        return None
    return f"{shown(cell.low, digits, sign=True)} … {shown(cell.high, digits, sign=True)}"


def mood(change: Change, better: Better | None) -> Literal["better", "worse"] | None:
    """Whether a change is clearly for the better or for the worse; None where nobody can tell."""
    if better is None or not change.clear:
        return None
    return "better" if (change.value > 0) == (better == "higher") else "worse"


def with_best(lines: Sequence[Line], better: Sequence[Better | None]) -> list[Line]:
    """Mark the best number of each column, as far as digits show one; a column with one number has none."""
    marked = [list(line.cells) for line in lines]
    for column, way in enumerate(better):
        numbers = {
            row[column].text.partition(" ±")[0]: row[column].value for row in marked if row[column].value is not None
        }
        if way is None or len(numbers) < 2:  # noqa: PLR2004 (one is no choice)
            continue
        known = [value for value in numbers.values() if value is not None]
        best = max(known) if way == "higher" else min(known)
        for row in marked:
            if row[column].text.partition(" ±")[0] in (text for text, value in numbers.items() if value == best):
                row[column] = replace(row[column], best=True)
    return [replace(line, cells=tuple(row)) for line, row in zip(lines, marked, strict=True)]
