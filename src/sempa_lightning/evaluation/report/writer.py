"""Writes a report in all its formats."""

from collections.abc import Sequence
from pathlib import Path

from sempa_lightning.evaluation.report.document import Report, make_report
from sempa_lightning.evaluation.report.folder import read_evaluations
from sempa_lightning.evaluation.report.latex import latex
from sempa_lightning.evaluation.report.markdown import markdown
from sempa_lightning.evaluation.report.page import html_page
from sempa_lightning.evaluation.report.records import csv_text, json_text
from sempa_lightning.files import write_text

_FORMATS = {"html": html_page, "md": markdown, "tex": latex, "csv": csv_text, "json": json_text}


def write_report(folders: Sequence[Path], out: Path, paper: str | None = None) -> None:
    """Write `report.html`, `.md`, `.tex`, `.csv` and `.json` of evaluation folders, all with the same tables.

    Args:
        folders: Evaluation folders, or folders of sweeps that hold them.
        out: The folder to write to.
        paper: The papers' model (such as `LLaMA2-7B`) whose rows stand beside ours; null takes the one that our base
            model is, if it is one.

    Raises:
        UserError: If a folder holds no evaluation, a file in it is damaged, or no paper has the model.
    """
    write_formats(make_report(read_evaluations(folders), paper), out)


def write_formats(report: Report, out: Path) -> None:
    """Write a report to a folder."""
    for ending, render in _FORMATS.items():
        write_text(out / f"report.{ending}", render(report))
