"""A report as Markdown: its tables, without pictures."""

from sempa_lightning.escape import for_markdown
from sempa_lightning.evaluation.report.document import Report
from sempa_lightning.evaluation.report.table import Cell, Table


def markdown(report: Report) -> str:
    """Render a report."""
    return "\n".join(
        [f"# {for_markdown(report.title)}", "", *(part for table in report.tables for part in _table(table))]
    )


def _table(table: Table) -> list[str]:
    aligned = "---" if table.textual else "---:"
    lines = [
        f"## {for_markdown(table.title)}",
        "",
        _line([table.stub, *table.columns]),
        _line(["---", *[aligned] * len(table.columns)]),
    ]
    group = ""
    for line in table.lines:
        if line.group != group:
            lines.append("| " + f"**{for_markdown(line.group)}**" + " |" * (len(table.columns) + 1))
            group = line.group
        lines.append("| " + " | ".join([for_markdown(line.label), *(_cell(cell) for cell in line.cells)]) + " |")
    return [*lines, "", *(f"{for_markdown(note)}\n" for note in table.notes)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell if set(cell) <= set("-:") else for_markdown(cell) for cell in cells) + " |"


def _cell(cell: Cell) -> str:
    return f"**{for_markdown(cell.text)}**" if cell.best else for_markdown(cell.text)
