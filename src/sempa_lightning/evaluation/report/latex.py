"""A report's tables as LaTeX, in the style of the package booktabs."""

from sempa_lightning.escape import for_latex, slug
from sempa_lightning.evaluation.report.document import Report
from sempa_lightning.evaluation.report.table import Cell, Table

_NARROW = 0.8


def latex(report: Report) -> str:
    r"""Render the tables; they need `\usepackage[T1]{fontenc}` and `\usepackage{booktabs}`."""
    head = f"% {for_latex(report.title)}\n% \\usepackage[T1]{{fontenc}} \\usepackage{{booktabs}}\n\n"
    return head + "\n\n".join(_table(table) for table in report.tables) + "\n"


def _table(table: Table) -> str:
    columns = len(table.columns)
    width = f"p{{{_NARROW / max(columns, 1):.2f}\\linewidth}}"
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{for_latex(table.title)}.{''.join(' ' + for_latex(note) for note in table.notes)}}}",
        rf"\label{{tab:{slug(table.key).replace('_', '-')}}}",
        rf"\begin{{tabular}}{{l{(width if table.textual else 'r') * columns}}}",
        r"\toprule",
        _line([for_latex(table.stub), *(for_latex(column) for column in table.columns)]),
        r"\midrule",
    ]
    group = ""
    for line in table.lines:
        if line.group != group:
            if group:
                lines.append(r"\midrule")
            lines.append(rf"\multicolumn{{{columns + 1}}}{{l}}{{\textit{{{for_latex(line.group)}}}}} \\")
            group = line.group
        lines.append(_line([for_latex(line.label), *(_cell(cell) for cell in line.cells)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    return rf"\textbf{{{for_latex(cell.text)}}}" if cell.best else for_latex(cell.text)
