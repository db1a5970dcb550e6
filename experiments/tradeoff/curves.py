"""What the probes of runs saw on the way, in one table, from the folders of the runs alone.

python experiments/tradeoff/curves.py FOLDER --by KEY… [--budget 0.1] [--out FOLDER]

FOLDER holds runs of `callbacks=kl_budget`, which look at dev STS and at KL from the reference on general text. Runs
that agree in the keys, as a sweep chose them or else in their configs, are seeds of one row. Writes `curves.json` and
`curves.md`.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from table import Seeds, over_seeds, setting

from sempa_lightning.artifacts import RunDir
from sempa_lightning.entry import telling_errors
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.report.metric import Display
from sempa_lightning.evaluation.report.table import value_cell
from sempa_lightning.files import write_json, write_text
from sempa_lightning.sweeps.trial import recorded

KL = "eval/generation/dev/kl"
SHOWN = {
    "best": Display("best dev STS", 100, 1, "higher"),
    "best_step": Display("at step", 1, 0),
    "best_kl": Display("its KL", 1, 2, "lower"),
    "last": Display("last", 100, 1, "higher"),
    "last_less_best": Display("last − best", 100, 1),
    "last_kl": Display("KL", 1, 2, "lower"),
    "within": Display("best within the budget", 100, 1, "higher"),
}


def read_curves(folder: Path, by: Sequence[str], budget: float) -> dict[str, Seeds]:
    """Read the rows, in the order of their first runs.

    Raises:
        UserError: If there is no run with probes, or two runs of a row have the same seed.
    """
    rows: dict[str, Seeds] = {}
    folders = {path.parent for path in folder.rglob("metrics.jsonl")}
    for run in map(RunDir, sorted(folders, key=lambda path: (len(path.name), path))):  # 10 comes after 9
        config = run.read_config()
        chosen = recorded(run).chosen if run.trial.is_file() else {}
        name = ", ".join(chosen.get(key) or setting(config, key) for key in by)
        seed = setting(config, "seed")
        if seed in rows.setdefault(name, {}):
            raise UserError(f"{run.path} is the second run of {name} with seed {seed}: tell them apart by more keys")
        probes = [line for line in run.read_metrics() if config["monitor"] in line and KL in line]
        if not probes:
            raise UserError(f"{run.path} has no probe of {config['monitor']} and {KL}: train with callbacks=kl_budget")
        rows[name][seed] = numbers(probes, config["monitor"], budget)
    if not rows:
        raise UserError(f"{folder} holds no run")
    return rows


def numbers(probes: Sequence[Mapping[str, float]], monitor: str, budget: float) -> dict[str, float]:
    """The numbers of a run.

    Args:
        probes: Lines of its log that have the monitored score and KL, oldest first.
        monitor: Name of the score, of which more is better.
        budget: Nats per token; `within` is the best score at a KL of at most this, and missing where none is.
    """
    best, last = max(probes, key=lambda probe: probe[monitor]), probes[-1]
    found = {
        "best": best[monitor],
        "best_step": best["step"] + 1,
        "best_kl": best[KL],
        "last": last[monitor],
        "last_less_best": last[monitor] - best[monitor],
        "last_kl": last[KL],
    }
    if kept := [probe[monitor] for probe in probes if probe[KL] <= budget]:
        found["within"] = max(kept)
    return found


def markdown(rows: Mapping[str, Seeds], by: Sequence[str]) -> str:
    """The table: mean ± standard deviation over seeds."""
    lines = [[", ".join(by), *(how.heading for how in SHOWN.values())], ["---", *["---:"] * len(SHOWN)]]
    for name, seeds in rows.items():
        lines.append([name, *(value_cell(over_seeds(seeds, key), how).text for key, how in SHOWN.items())])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Read the command line; write numbers and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by", nargs="+", default=["run_name"], metavar="KEY")
    parser.add_argument("--budget", type=float, default=0.1, help="largest KL that is kept, in nats per token")
    parser.add_argument("--out", type=Path, help="where to write; FOLDER unless given")
    chosen = parser.parse_args()
    out = chosen.out or chosen.folder
    with telling_errors():
        rows = read_curves(chosen.folder, chosen.by, chosen.budget)
        write_json(out / "curves.json", rows)
        write_text(out / "curves.md", markdown(rows, chosen.by))
    print(markdown(rows, chosen.by))


if __name__ == "__main__":
    main()
