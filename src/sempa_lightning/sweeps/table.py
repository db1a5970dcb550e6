"""The table that a sweep ends with."""

import csv
import io
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from sempa_lightning.artifacts import SweepDir
from sempa_lightning.escape import for_csv
from sempa_lightning.files import write_text
from sempa_lightning.sweeps.trial import Direction, Trial, recorded_trials


def tabulate(sweep: SweepDir, objectives: Mapping[str, Direction], console: Console) -> None:
    """Print what the trials differ in, their objectives and what became of them; write that and all numbers as csv.

    Args:
        sweep: Its folder.
        objectives: Keys of `summary.json`, each with the direction in which it is better; unbeaten trials get a star.
        console: Where the table goes.
    """
    trials = recorded_trials(sweep)
    keys = _differing(trials)
    numbers = [trial.run.read_summary() if trial.state == "done" else {} for trial in trials]
    stars = unbeaten([_upwards(row, objectives) for row in numbers])
    _write(sweep, trials, keys, stars, [{**dict.fromkeys(objectives, ""), **row} for row in numbers])
    table = Table(title="The sweep")
    table.add_column("", justify="right")
    for key in [*keys, *objectives]:
        table.add_column(key, justify="right", overflow="fold")
    table.add_column("state")
    for trial, row, star in zip(trials, numbers, stars, strict=True):
        chosen = [short(trial.chosen.get(key, "-")) for key in keys]
        scores = [f"{row[key]:.4g}" if key in row else "-" for key in objectives]
        table.add_row(f"{'* ' if star else ''}{trial.number}", *chosen, *scores, trial.state)
    console.print(table)
    for trial in trials:
        if trial.why:
            console.print(f"{trial} {trial.state}: {trial.why}", highlight=False, soft_wrap=True)


def unbeaten(rows: Sequence[Sequence[float] | None]) -> list[bool]:
    """The Pareto set: which rows no other row equals or exceeds everywhere and exceeds somewhere.

    Args:
        rows: Numbers of which more is better, as many in each row, or None for a row out of competition.
    """
    present = [row for row in rows if row is not None]
    return [
        row is not None
        and not any(other != row and all(o >= own for o, own in zip(other, row, strict=True)) for other in present)
        for row in rows
    ]


def _upwards(row: Mapping[str, float], objectives: Mapping[str, Direction]) -> tuple[float, ...] | None:
    """The objectives, turned so that more is better; None where one is missing."""
    if not objectives.keys() <= row.keys():
        return None
    return tuple(row[key] if direction == "maximize" else -row[key] for key, direction in objectives.items())


def _differing(trials: Sequence[Trial]) -> list[str]:
    """Keys that were not chosen alike for all."""
    keys = dict.fromkeys(key for trial in trials for key in trial.chosen)
    return [key for key in keys if len({trial.chosen.get(key) for trial in trials}) > 1]


def short(value: str) -> str:
    """A number to four digits, anything else as it is.

    >>> short("0.00012345"), short("hinge")
    ('0.0001234', 'hinge')
    """
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def _write(
    sweep: SweepDir,
    trials: Sequence[Trial],
    keys: Sequence[str],
    stars: Sequence[bool],
    numbers: Sequence[Mapping[str, object]],
) -> None:
    """A line for each trial."""
    names = list(dict.fromkeys(name for row in numbers for name in row))
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(map(for_csv, ["number", *keys, "state", "why", "unbeaten", *names]))
    for trial, star, row in zip(trials, stars, numbers, strict=True):
        chosen = [trial.chosen.get(key, "") for key in keys]
        numbered = [trial.number, *chosen, trial.state, trial.why, int(star), *(row.get(n, "") for n in names)]
        table.writerow(map(for_csv, numbered))
    write_text(sweep.table, lines.getvalue())
