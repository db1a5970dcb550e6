"""Tables of suites whose tasks have one number each: STS as SemPA's Table 3, generation as its Table 6, and others."""

from collections.abc import Sequence
from typing import NamedTuple

from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.metric import Display, display, shown
from sempa_lightning.evaluation.report.papers import PaperRow, Papers
from sempa_lightning.evaluation.report.suite import STS_TASKS, Family, sts_task
from sempa_lightning.evaluation.report.table import (
    NOTHING,
    Cell,
    Line,
    Table,
    change_cell,
    value_cell,
    with_best,
)

AVERAGE = "average"
CHANCE_MARK = "°"
_PAPER_DIGITS = 2
_PAPER_TABLES = {"sts": "sts", "harness": "generation"}


class Column(NamedTuple):
    """A task in a table, or the average of some.

    Attributes:
        key: The papers' name of the task.
        label: Heading.
        numbers: What its cells are the mean of, each a task and a metric.
        how: How its numbers are shown.
        at_chance: Whether the base of some row is at chance on it.
    """

    key: str
    label: str
    numbers: tuple[tuple[str, str], ...]
    how: Display
    at_chance: bool = False


def task_columns(comparison: Comparison, family: Family) -> list[Column]:
    """Tasks of a family in the order of the paper, then as they come; a task that two suites have counts once."""
    columns: dict[str, Column] = {}
    for task in comparison.tasks(family.name):
        metric = comparison.headline(task)
        if metric is None:
            continue
        name = task.rpartition("/")[2]
        key = sts_task(task) if family.name == "sts" else name
        label = STS_TASKS.get(key, name.replace("_", " ")) if family.name == "sts" else name.replace("_", " ")
        chance = any(comparison.at_chance(row, task) for row in comparison.rows)
        columns.setdefault(key, Column(key, label, ((task, metric),), display(metric), chance))
    order = {key: place for place, key in enumerate(STS_TASKS)} if family.name == "sts" else {}
    return sorted(columns.values(), key=lambda column: order.get(column.key, len(order)))


def average_column(family: Family, columns: Sequence[Column]) -> Column | None:
    """The average that speaks for a family; None if no task can.

    STS: of the paper's seven tasks, or those of them that are there; of all if none is. Elsewhere: of the tasks on
    which no row's base is at chance, for the others cannot tell whether anything was lost.
    """
    if family.name == "sts":
        chosen = [column for column in columns if column.key in STS_TASKS] or list(columns)
    else:
        chosen = [column for column in columns if not column.at_chance]
    if not chosen:
        return None
    numbers = tuple(number for column in chosen for number in column.numbers)
    return Column(AVERAGE, f"average of {len(chosen)}", numbers, chosen[0].how)


def with_average(columns: Sequence[Column], average: Column | None) -> list[Column]:
    """The columns with the average behind those that it is of, or at the end; without it where there is one column."""
    if average is None or len(columns) == 1:
        return list(columns)
    inside = [column for column in columns if set(column.numbers) <= set(average.numbers)]
    place = len(inside) if list(columns[: len(inside)]) == inside else len(columns)
    return [*columns[:place], average, *columns[place:]]


def suite_table(comparison: Comparison, family: Family, papers: Papers) -> Table | None:
    """Rows: what was measured, changes, the paper's rows, and what ours have more than those."""
    columns = task_columns(comparison, family)
    average = average_column(family, columns) if family.averaged else None
    if not columns:
        return None
    every = with_average(columns, average)
    known = papers.rows(_PAPER_TABLES.get(family.name, ""))
    lines = [
        *measured_lines(comparison, every),
        *change_lines(comparison, every),
        *(paper_line(row, every) for row in known),
        *_difference_lines(comparison, known, every),
    ]
    headings = tuple(column.label + (CHANCE_MARK if column.at_chance else "") for column in every)
    return Table(family.name, family.title, headings, tuple(lines), notes=tuple(_notes(every, known)))


def measured_lines(comparison: Comparison, columns: Sequence[Column], group: str = "measured") -> list[Line]:
    """What was measured, a line for each row that has any of it; the best of each column is marked."""
    lines = [
        Line(
            row.label, tuple(value_cell(comparison.value(row, column.numbers), column.how) for column in columns), group
        )
        for row in comparison.rows
    ]
    return with_best(_with_numbers(lines), [column.how.better for column in columns])


def change_lines(comparison: Comparison, columns: Sequence[Column], group: str = "change") -> list[Line]:
    """Changes against the base, a line for each row that has one."""
    lines = [
        Line(
            row.label,
            tuple(change_cell(comparison.change(row, column.numbers), column.how) for column in columns),
            group,
        )
        for row in comparison.rows
    ]
    return _with_numbers(lines)


def _with_numbers(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if any(cell.value is not None for cell in line.cells)]


def _paper_number(row: PaperRow, column: Column, columns: Sequence[Column]) -> float | None:
    """A paper's number; its average only where ours is over the same tasks."""
    if column.key != AVERAGE:
        return row.values.get(column.key)
    return (
        row.average
        if {each.key for each in columns} - {AVERAGE} >= set(row.values) and len(column.numbers) == len(row.values)
        else None
    )


def paper_line(row: PaperRow, columns: Sequence[Column]) -> Line:
    """A paper's numbers, as it prints them."""
    numbers = [_paper_number(row, column, columns) for column in columns]
    cells = (Cell(NOTHING) if number is None else Cell(shown(number, _PAPER_DIGITS), number) for number in numbers)
    return Line(row.method, tuple(cells), row.table)


def _difference_lines(comparison: Comparison, known: Sequence[PaperRow], columns: Sequence[Column]) -> list[Line]:
    """Ours minus the paper's, for each pair of rows that were made in the same way."""
    lines = []
    for row in comparison.rows:
        for paper in known:
            if paper.is_of(row):
                cells = []
                for column in columns:
                    ours, theirs = comparison.value(row, column.numbers), _paper_number(paper, column, columns)
                    cells.append(
                        Cell(NOTHING)
                        if ours is None or theirs is None
                        else _signed(ours.mean * column.how.scale - theirs)
                    )
                lines.append(Line(f"{row.label} − {paper.method}", tuple(cells), "ours − paper"))
    return _with_numbers(lines)


def _signed(difference: float) -> Cell:
    return Cell(shown(difference, _PAPER_DIGITS, sign=True), difference)


def _notes(columns: Sequence[Column], known: Sequence[PaperRow]) -> list[str]:
    metrics = list(dict.fromkeys(column.how.heading for column in columns))
    scales = " (× 100)" if all(column.how.scale != 1 for column in columns) else ""
    notes = [f"{', '.join(metrics)}{scales}."]
    if any(column.at_chance for column in columns):
        notes.append(
            f"{CHANCE_MARK} The base is not three standard errors above chance: the task cannot tell whether anything"
            " was lost, and is not in the average."
        )
    if known:
        notes.append(
            "The paper's rows are as printed; differences are shown where a row of ours was made in the same way."
        )
    return notes
