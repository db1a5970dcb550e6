"""One table over the evaluations of a sweep."""

import csv
import io
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from sempa_lightning.artifacts import EvaluationDir, SweepDir
from sempa_lightning.escape import for_csv
from sempa_lightning.files import write_text

_COLUMNS = 4


def tabulate(sweep: SweepDir, console: Console) -> None:
    """Print what each evaluation gave in the first metric of every task, and write all numbers to one file."""
    names = _names(sweep.evaluations)
    rows = {names[folder.path.name]: folder.read_summary() for folder in sweep.evaluations}
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(map(for_csv, ["evaluation", *keys]))
    table.writerows([for_csv(name), *(row.get(key, "") for key in keys)] for name, row in rows.items())
    write_text(sweep.table, lines.getvalue())
    shown = _headlines(keys)
    for at in range(0, len(shown), _COLUMNS):
        _print(rows, shown[at : at + _COLUMNS], console)


def _names(folders: Sequence[EvaluationDir]) -> dict[str, str]:
    """Number of each evaluation, and the words of its command in which it differs from others."""
    words = {folder.path.name: folder.read_manifest().get("overrides", []) for folder in folders}
    shared = set.intersection(*map(set, words.values())) if words else set()
    return {name: " ".join([name, *(word for word in own if word not in shared)]) for name, own in words.items()}


def _headlines(keys: Sequence[str]) -> list[str]:
    """The first metric of every task and subject."""
    first = {key.rpartition("/")[0]: key for key in reversed(keys) if not key.startswith("change_se/")}
    return [key for key in keys if key in first.values()]


def _print(rows: Mapping[str, Mapping[str, float]], keys: Sequence[str], console: Console) -> None:
    table = Table(title="The sweep")
    table.add_column("evaluation", overflow="fold")
    for key in keys:
        table.add_column(key.replace("/", "\n"), justify="right", overflow="fold")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.4g}" if key in row else "-" for key in keys))
    console.print(table)
