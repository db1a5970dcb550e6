"""The table of a sweep: what differs, numbers, stars, failures."""

import csv
import io
import json

import pytest

from sempa_lightning.sweeps.table import tabulate, unbeaten
from sempa_lightning.terminal import Terminal

OBJECTIVES = {"after/sts/demo/spearman": "maximize", "after/generation/demo/perplexity": "minimize"}


@pytest.mark.parametrize(
    ("rows", "stars"),
    [
        ([], []),
        ([(0.3,), (0.5,), (0.5,), None], [False, True, True, False]),
        ([(1.0, 5.0), (2.0, 4.0), (1.0, 4.0), None, (2.0, 4.0)], [True, True, False, False, True]),
    ],
)
def test_unbeaten(rows, stars):
    assert unbeaten(rows) == stars


@pytest.fixture
def finished(trial):
    """Five trials of two keys: three with numbers, one pruned, one failed."""
    numbers = [(0.41234567, 100.0), (0.5, 120.5), (0.4, 130.0)]
    for number, (sts, perplexity) in enumerate(numbers):
        one = trial(number, lr=f"0.00{number}123456789", loss="plackett_luce", seed=str(number % 2))
        one.run.path.mkdir()
        one.run.summary.write_text(
            json.dumps({"train/steps": 6.0, **dict(zip(OBJECTIVES, (sts, perplexity), strict=True))})
        )
        one.became("done")
    trial(3, lr="1e-05", loss="plackett_luce", seed="1").became("pruned", "at probe 3, sts = 0.1")
    trial(11, lr="0.1", loss="plackett_luce", seed="0").became("failed", "no folder [here]: look")


def test_the_table_of_a_terminal(sweep, finished):
    out = io.StringIO()
    tabulate(sweep, OBJECTIVES, Terminal(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) == 80
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert rows == [
        ["* 0", "0.0001235", "0", "0.4123", "100", "done"],
        ["* 1", "0.001123", "1", "0.5", "120.5", "done"],
        ["2", "0.002123", "0", "0.4", "130", "done"],
        ["3", "1e-05", "1", "-", "-", "pruned"],
        ["11", "0.1", "0", "-", "-", "failed"],
    ]
    assert lines[-2:] == [
        "3 lr=1e-05 loss=plackett_luce seed=1 pruned: at probe 3, sts = 0.1",
        "11 lr=0.1 loss=plackett_luce seed=0 failed: no folder [here]: look",
    ]


def test_the_file_holds_all_numbers(sweep, finished):
    tabulate(sweep, OBJECTIVES, Terminal(file=io.StringIO()))
    with sweep.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["number", "lr", "seed", "state", "why", "unbeaten", *OBJECTIVES, "train/steps"]
    assert rows[0]["lr"] == "0.000123456789"
    assert float(rows[0]["after/sts/demo/spearman"]) == 0.41234567
    assert [row["unbeaten"] for row in rows] == ["1", "1", "0", "0", "0"]
    assert rows[4] | {"number": "11", "state": "failed", "why": "no folder [here]: look"} == rows[4]
    assert rows[3]["after/sts/demo/spearman"] == rows[3]["train/steps"] == ""


def test_no_cell_of_the_file_is_a_formula(sweep, trial):
    for number, value in enumerate(["=cmd|' /C calc'!A0", "-0.5", "@x", "+x", "-x", "\x1b[31m"]):
        trial(number, lr=value).became("failed", f"={value}")
    tabulate(sweep, OBJECTIVES, Terminal(file=io.StringIO()))
    with sweep.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["lr"] for row in rows] == ["'=cmd|' /C calc'!A0", "-0.5", "'@x", "'+x", "'-x", r"\x1b[31m"]
    assert all(row["why"].startswith("'=") for row in rows)
