"""Tables of suites whose tasks have several numbers: geometry as SemPA's Table 5, held-out text, and others."""

from collections.abc import Sequence

from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.metric import display, shown
from sempa_lightning.evaluation.report.papers import PaperRow, Papers
from sempa_lightning.evaluation.report.suite import Family
from sempa_lightning.evaluation.report.suite_tables import Column, change_lines, measured_lines
from sempa_lightning.evaluation.report.table import (
    NOTHING,
    Cell,
    Line,
    Table,
    change_cell,
    interval_text,
    text_cell,
    value_cell,
)

_GEOMETRY_DIGITS = 4
_MOST_COLUMNS = 8
_COLLAPSE, _COLLAPSED = "mean_cosine", 0.95


def metric_table(comparison: Comparison, family: Family, papers: Papers) -> Table | None:
    """For each task what was measured and the changes; a column for each metric."""
    tasks = comparison.tasks(family.name)
    metrics = list(dict.fromkeys(metric for task in tasks for metric in comparison.metrics(task)))
    if not metrics:
        return None
    if len(metrics) > _MOST_COLUMNS:
        return numbers_table(comparison, [family.name], family.name, family.title)
    lines: list[Line] = []
    for task in tasks:
        columns = [Column(metric, metric, ((task, metric),), display(metric)) for metric in metrics]
        name = (
            task.rpartition("/")[2].replace("_", " ") if len({each.partition("/")[0] for each in tasks}) == 1 else task
        )
        lines += measured_lines(comparison, columns, name)
        lines += change_lines(comparison, columns, f"{name}: change")
    known = papers.rows("geometry") if family.name == "geometry" else []
    lines += [_paper_line(row, metrics) for row in known]
    headings = tuple(display(metric).heading for metric in metrics)
    percent = [display(metric).label for metric in metrics if display(metric).scale != 1]
    notes = (f"{', '.join(percent)}: × 100.",) if percent else ()
    return Table(family.name, family.title, headings, tuple(lines), notes=(*notes, *_collapse_notes(comparison, tasks)))


def _collapse_notes(comparison: Comparison, tasks: Sequence[str]) -> list[str]:
    """A note for each row whose embeddings point almost the same way: their alignment says nothing."""
    notes = []
    for task in tasks:
        for row in comparison.rows:
            value = comparison.value(row, [(task, _COLLAPSE)])
            if value is not None and value.mean > _COLLAPSED:
                notes.append(
                    f"{row.label}: mean cosine {value.mean:.2f}: the embeddings have collapsed to nearly one direction;"
                    " alignment is low whatever the quality, so read it beside uniformity."
                )
    return notes


def _paper_line(row: PaperRow, metrics: list[str]) -> Line:
    numbers = [row.values.get(metric) for metric in metrics]
    cells = (Cell(NOTHING) if number is None else Cell(shown(number, _GEOMETRY_DIGITS), number) for number in numbers)
    return Line(row.method, tuple(cells), row.table)


def numbers_table(comparison: Comparison, families: Sequence[str], key: str, title: str) -> Table:
    """Every number of every task, with its changes and their 95 % intervals."""
    changed = [row for row in comparison.rows if row.trained]
    columns = [row.label for row in comparison.rows]
    for row in changed:
        name = "" if len(changed) == 1 else f": {row.label}"
        columns += [f"change{name}", f"95 % interval{name}"]
    lines = []
    for task in (task for family in families for task in comparison.tasks(family)):
        for metric in comparison.metrics(task):
            how = display(metric)
            number = [(task, metric)]
            cells = [value_cell(comparison.value(row, number), how) for row in comparison.rows]
            for row in changed:
                cell = change_cell(comparison.change(row, number), how)
                cells += [cell, text_cell(interval_text(cell, how.digits))]
            lines.append(Line(how.heading, tuple(cells), task))
    return Table(key, title, tuple(columns), tuple(lines))
