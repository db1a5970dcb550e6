"""A report as Markdown: its tables, without pictures."""

import html
import re

from sempa_lightning.evaluation.report.document import Report
from sempa_lightning.evaluation.report.table import Cell, Table


def markdown(report: Report) -> str:
    """Render a report."""
    return "\n".join([f"# {_escaped(report.title)}", "", *(part for table in report.tables for part in _table(table))])


def _table(table: Table) -> list[str]:
    aligned = "---" if table.textual else "---:"
    lines = [
        f"## {_escaped(table.title)}",
        "",
        _line([table.stub, *table.columns]),
        _line(["---", *[aligned] * len(table.columns)]),
    ]
    group = ""
    for line in table.lines:
        if line.group != group:
            lines.append("| " + f"**{_escaped(line.group)}**" + " |" * (len(table.columns) + 1))
            group = line.group
        lines.append("| " + " | ".join([_escaped(line.label), *(_cell(cell) for cell in line.cells)]) + " |")
    return [*lines, "", *(f"{_escaped(note)}\n" for note in table.notes)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell if set(cell) <= set("-:") else _escaped(cell) for cell in cells) + " |"


def _cell(cell: Cell) -> str:
    return f"**{_escaped(cell.text)}**" if cell.best else _escaped(cell.text)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no column ends, no emphasis."""
    return re.sub(r"([\\|*_`\[\]#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
