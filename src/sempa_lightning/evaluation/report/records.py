"""A report's tables for programs: CSV with a line for each cell, and JSON."""

import csv
import io
from typing import Any

from sempa_lightning.escape import for_csv
from sempa_lightning.evaluation.report.document import Report
from sempa_lightning.evaluation.report.table import Cell, Table
from sempa_lightning.files import strict_json

_HEADER = ("table", "group", "row", "column", "text", "value", "error", "low", "high")


def csv_text(report: Report) -> str:
    """Every cell of every table: as it is shown, and its number in full."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_HEADER)
    for table in report.tables:
        for line in table.lines:
            for column, cell in zip(table.columns, line.cells, strict=True):
                row = (table.key, line.group, line.label, column, cell.text, *_numbers(cell))
                lines.writerow(map(for_csv, row))
    return text.getvalue()


def json_text(report: Report) -> str:
    """The claims and the tables."""
    claims = [
        {
            "row": row.label,
            "side": said.side,
            "what": said.what,
            **_cell(said.cell),
            "verdict": said.verdict,
            "details": dict(said.details),
        }
        for row, statements in report.claims
        for said in statements
    ]
    content = {"title": report.title, "claims": claims, "tables": [_table(table) for table in report.tables]}
    text = strict_json(content, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate stays the escape that it was


def _table(table: Table) -> dict[str, Any]:
    lines = [
        {"group": line.group, "row": line.label, "cells": [_cell(cell) for cell in line.cells]} for line in table.lines
    ]
    return {
        "key": table.key,
        "title": table.title,
        "columns": list(table.columns),
        "lines": lines,
        "notes": list(table.notes),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    numbers = zip(_HEADER[5:], _numbers(cell), strict=True)
    return {
        "text": cell.text,
        **{name: number for name, number in numbers if number is not None},
        **({"best": True} if cell.best else {}),
    }


def _numbers(cell: Cell) -> tuple[float | None, ...]:
    return cell.value, cell.error, cell.low, cell.high
