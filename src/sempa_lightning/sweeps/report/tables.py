"""Tables of runs: what they differ in, what became of them, their numbers."""

import os
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from sempa_lightning.evaluation.monitor import BEST
from sempa_lightning.evaluation.report.table import NOTHING, Cell, Line, Table, text_cell, value_cell, with_best
from sempa_lightning.sweeps.report.rows import Row, heading
from sempa_lightning.sweeps.report.scores import Score

_MINUTE, _HOUR = 60, 3600


def runs_table(
    rows: Sequence[Row], scores: Sequence[Score], colours: Mapping[Row, str], above: Path, out: Path
) -> Table:
    """A line for each row: settings, state, final numbers, steps, time, and what differs of seeds and commits.

    Args:
        rows: In the order of the lines.
        scores: The final numbers.
        colours: Of the rows in charts.
        above: The folder that holds all runs.
        out: The folder that the page is written to, from which it links to theirs.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    commits = {run.commit for row in rows for run in row.runs if run.manifest}
    seeded = len({run.seed for row in rows for run in row.runs}) > 1
    lines = []
    for row in rows:
        cells = [text_cell(row.settings.get(key)) for key in keys]
        cells += [text_cell(states([row])), *(_score_cell(row, score) for score in scores)]
        cells += [text_cell(_steps(row)), text_cell(_time(row))]
        cells += [text_cell(_each(run.seed for run in row.runs))] if seeded else []
        cells += [text_cell(_each(run.commit for run in row.runs))] if len(commits) > 1 else []
        lines.append(Line(row.name, tuple(cells), links=_links(row, out), colour=colours.get(row)))
    columns = [*map(heading, keys), "state", *(score.heading for score in scores), "steps", "time"]
    columns += [*["seed"] * seeded, *["commit"] * (len(commits) > 1)]
    better = dict(zip((score.heading for score in scores), (score.how.better for score in scores), strict=True))
    marked = with_best(lines, [better.get(column) for column in columns])
    return Table("runs", "Runs", tuple(columns), tuple(marked), "run", tuple(_notes(rows, scores, above, commits)))


def ended_table(rows: Sequence[Row], out: Path) -> Table | None:
    """Runs that failed or were pruned, and why; None if there are none."""
    lines = [
        Line(
            name, (text_cell(row.label), text_cell(run.state), text_cell(run.why)), links=_links(row, out)[at : at + 1]
        )
        for row in rows
        for at, (name, run) in enumerate(zip(row.names, row.runs, strict=True))
        if run.state in ("failed", "pruned")
    ]
    columns = ("what", "state", "why")
    return Table("ended", "Failed and pruned", columns, tuple(lines), "run", textual=True) if lines else None


def states(rows: Sequence[Row]) -> str:
    """How many runs are in which state; the state alone where it is that of all, or of one."""
    counts = Counter(run.state for row in rows for run in row.runs)
    if len(counts) == 1 and len(rows) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _steps(row: Row) -> str:
    """Steps done; of how many, where a run has not ended."""
    done = (
        f"{run.steps} of {run.planned}" if run.planned and run.state in ("running", "unfinished") else str(run.steps)
        for run in row.runs
    )
    return _each(done)


def _each(texts: Iterable[str | None]) -> str:
    """Texts, each once; nothing for what is not known."""
    return ", ".join(dict.fromkeys(text for text in texts if text))


def _score_cell(row: Row, score: Score) -> Cell:
    """Before → after, with the standard deviation over seeds; a divergence is 0 before."""
    cell, before = value_cell(score.value(row), score.how), score.before(row)
    if cell.value is None or before is None or before.mean == 0:
        return cell
    return Cell(f"{score.how.number(before.mean)} → {cell.text}", cell.value, cell.error)


def _time(row: Row) -> str:
    seconds = [run.seconds for run in row.runs if run.seconds is not None]
    return duration(statistics.fmean(seconds)) if seconds else NOTHING


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(59.4), duration(90.0), duration(9000.0)
    ('59 s', '1.5 min', '2.5 h')
    """
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.1f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def _links(row: Row, out: Path) -> tuple[tuple[str, str], ...]:
    addresses = (quote(os.path.relpath(run.folder.path, out).replace(os.sep, "/")) + "/" for run in row.runs)
    return tuple(zip(row.names, addresses, strict=True))


def _notes(rows: Sequence[Row], scores: Sequence[Score], above: Path, commits: set[str | None]) -> list[str]:
    monitors = {str(run.config["monitor"]) for row in rows for run in row.runs if "monitor" in run.config}
    percent = [score.label for score in scores if score.how.scale != 1]
    notes = [f"In {above}." + "".join(f" Commit {commit}." for commit in commits if commit and len(commits) == 1)]
    if any(score.keys == (BEST,) for score in scores):
        notes.append(f"{BEST}: the best {' or '.join(sorted(monitors))} of the probes so far.")
    if scores:
        several = any(len(row.runs) > 1 for row in rows)
        before = "Before → after training" + ("; ± standard deviation over seeds" if several else "")
        notes.append(before + (f"; × 100: {', '.join(percent)}." if percent else "."))
    notes.append("Time: from the config to the last number, by the times of the files; a mean over seeds.")
    if any(run.state == "unfinished" for row in rows for run in row.runs):
        notes.append("Unfinished: no sweep has recorded what became of it; it may still be running.")
    return notes
