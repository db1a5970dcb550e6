"""A report's tables as LaTeX, in the style of the package booktabs."""

from sempa_lightning.evaluation.report.document import Report
from sempa_lightning.evaluation.report.table import Cell, Table

_SIGNS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "°": r"$^\circ$",
    "·": r"$\cdot$",
    "–": "--",
    "…": r"\dots{}",
    "▁": r"\textvisiblespace{}",
    "″": "''",
}
_NARROW = 0.8


def latex(report: Report) -> str:
    r"""Render the tables; they need `\usepackage[T1]{fontenc}` and `\usepackage{booktabs}`."""
    head = "% " + " ".join(report.title.split()) + "\n% \\usepackage[T1]{fontenc} \\usepackage{booktabs}\n\n"
    return head + "\n\n".join(_table(table) for table in report.tables) + "\n"


def _table(table: Table) -> str:
    columns = len(table.columns)
    width = f"p{{{_NARROW / max(columns, 1):.2f}\\linewidth}}"
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escaped(table.title)}.{''.join(' ' + _escaped(note) for note in table.notes)}}}",
        rf"\label{{tab:{table.key.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{l{(width if table.textual else 'r') * columns}}}",
        r"\toprule",
        _line([_escaped(table.stub), *(_escaped(column) for column in table.columns)]),
        r"\midrule",
    ]
    group = ""
    for line in table.lines:
        if line.group != group:
            if group:
                lines.append(r"\midrule")
            lines.append(rf"\multicolumn{{{columns + 1}}}{{l}}{{\textit{{{_escaped(line.group)}}}}} \\")
            group = line.group
        lines.append(_line([_escaped(line.label), *(_cell(cell) for cell in line.cells)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    return rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)


def _escaped(text: str) -> str:
    return "".join(_SIGNS.get(sign, sign) for sign in " ".join(text.split()))
