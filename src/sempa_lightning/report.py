"""`python -m sempa_lightning.report FOLDER…`: set runs and evaluations beside each other, without measuring again."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sempa_lightning.entry import telling_errors


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="python -m sempa_lightning.report", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a run, an evaluation, or a sweep that holds some"
    )
    parser.add_argument("--out", type=Path, help="folder to write to; the first FOLDER unless given")
    parser.add_argument("--paper", metavar="MODEL", help="show the papers' rows of this model, such as LLaMA2-7B")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and write the report."""
    chosen = parser().parse_args(words)
    with telling_errors():
        from sempa_lightning.sweeps.report import write_report

        out = chosen.out or chosen.folders[0]
        write_report(chosen.folders, out, chosen.paper)
        sys.stdout.write(f"{out / 'report.html'}\n")


if __name__ == "__main__":
    main()
