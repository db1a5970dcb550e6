"""Writes the report of folders of any kind."""

from collections.abc import Sequence
from pathlib import Path

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.report.document import joined
from sempa_lightning.evaluation.report.document import make_report as evaluations_report
from sempa_lightning.evaluation.report.folder import evaluation_folders, read_evaluations
from sempa_lightning.evaluation.report.writer import write_formats
from sempa_lightning.sweeps.report.document import make_report as runs_report
from sempa_lightning.sweeps.report.run import read_run, run_folders


def write_report(folders: Sequence[Path], out: Path, paper: str | None = None) -> None:
    """Write `report.html`, `.md`, `.tex`, `.csv` and `.json` of runs, of evaluations, or of both.

    Args:
        folders: Folders of runs and of evaluations, or folders that hold some, such as those of sweeps.
        out: The folder to write to.
        paper: For evaluations, the papers' model whose rows stand beside ours.

    Raises:
        UserError: If a folder holds neither, a file in it is damaged, or no paper has the model or is shown.
    """
    runs: dict[Path, None] = {}
    evaluations: dict[Path, None] = {}
    for folder in folders:
        ours, theirs = run_folders(folder), evaluation_folders(folder)
        if not ours and not theirs:
            raise UserError(
                f"{folder} holds no evaluation and no run: name a folder that sempa_lightning.train or"
                " sempa_lightning.evaluate has written"
            )
        runs |= dict.fromkeys(ours)
        evaluations |= dict.fromkeys(theirs)
    if paper is not None and not evaluations:
        raise UserError(
            f"--paper {paper}: only a report of evaluations shows papers, and these folders hold runs alone"
        )
    reports = [runs_report([read_run(path) for path in runs], out)] if runs else []
    reports += [evaluations_report(read_evaluations([*evaluations]), paper)] if evaluations else []
    write_formats(reports[0] if len(reports) == 1 else joined(*reports), out)
