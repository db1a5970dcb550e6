"""One table and one picture over the runs of a study, from their folders alone.

python experiments/tradeoff/table.py FOLDER [--by KEY…] [--out FOLDER]

FOLDER holds evaluations of runs, made by `sempa_lightning.evaluate run=<run>`. Runs whose configs agree in the keys
(`--by loss.beta optimizer.lr`; the name of the run unless told otherwise) are seeds of one row. Writes `results.json`,
`table.md` and, where STS and perplexity were measured, `tradeoff.png`.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

from picture import draw, front, mean

from sempa_lightning.artifacts import RunDir
from sempa_lightning.entry import telling_errors
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.report.comparison import Value
from sempa_lightning.evaluation.report.folder import Result, read_evaluations
from sempa_lightning.evaluation.report.metric import Display
from sempa_lightning.evaluation.report.suite import STS_TASKS
from sempa_lightning.evaluation.report.table import value_cell
from sempa_lightning.files import write_json, write_text

# A number of each seed: what it is the mean of, each a task and a metric.
MEASURED = {
    "sts": tuple((f"sts/{task}", "spearman") for task in STS_TASKS),
    "clustering": (("clustering/banking77", "v_measure"),),
    "uniformity": (("geometry/stsb", "uniformity"),),
    "isotropy": (("geometry/stsb", "isotropy"),),
    "perplexity": (("generation_full/wikitext2", "perplexity"),),
    "kl": (("generation_full/wikitext2", "kl"),),
    "hellaswag": (("harness_local/hellaswag", "acc_norm"),),
    "lambada": (("harness_local/lambada", "acc"),),
}
SHOWN = {
    "sts": Display("STS-7", 100, 2, "higher"),
    "clustering": Display("clustering", 100, 2, "higher"),
    "uniformity": Display("uniformity", 1, 3, "lower"),
    "isotropy": Display("isotropy", 1, 3, "higher"),
    "perplexity": Display("perplexity", 1, 1, "lower"),
    "kl": Display("KL", 1, 3, "lower"),
    "hellaswag": Display("HellaSwag", 100, 1, "higher"),
    "lambada": Display("LAMBADA", 100, 1, "higher"),
    "seconds": Display("seconds", 1, 0),
    "best_step": Display("best step", 1, 0),
    "last_less_best": Display("last − best dev", 100, 2),
}
BASE = "base"

Seeds = dict[str, dict[str, float]]
"""The numbers of each seed, by their names, in the units of the folders."""


def read_results(folder: Path, by: Sequence[str]) -> dict[str, Seeds]:
    """Read the rows: the model that all runs began with, then what they trained, in the order of the folders.

    Raises:
        UserError: If there is no evaluation of the base, a run is gone, or two runs of a row have the same seed.
    """
    rows: dict[str, Seeds] = {}
    evaluations = read_evaluations([folder])
    base = next((found for evaluation in evaluations if (found := evaluation.results.get("before"))), None)
    if base is None:
        raise UserError(f"no evaluation in {folder} has measured what the runs began with")
    rows[BASE] = {"": measured(base)}
    for evaluation in evaluations:
        run = evaluation.run
        if run is None:
            if "after" in evaluation.results:
                raise UserError(f"{evaluation.path} is the evaluation of a run that is not there any more")
            continue
        config = run.read_config()
        name, seed = ", ".join(setting(config, key) for key in by), setting(config, "seed")
        if seed in rows.setdefault(name, {}):
            raise UserError(f"{run.path} is the second run of {name} with seed {seed}: tell them apart by more keys")
        rows[name][seed] = measured(evaluation.results.get("after", {})) | of_training(run)
    return rows


def setting(config: Mapping[str, object], key: str) -> str:
    """A value of a config by its dotted key.

    Raises:
        UserError: If the config has no such key.
    """
    try:
        return str(reduce(lambda node, part: node[part], key.split("."), config))  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise UserError(f"no run is told apart by {key}: its config has no such key") from error


def measured(results: Mapping[str, Result]) -> dict[str, float]:
    """The numbers of one subject; what was not measured is left out."""
    known = {(task, metric): number for task, result in results.items() for metric, number in result.metrics.items()}
    return {
        name: statistics.fmean(known[number] for number in numbers)
        for name, numbers in MEASURED.items()
        if all(number in known for number in numbers)
    }


def of_training(run: RunDir) -> dict[str, float]:
    """Seconds in training steps, the step of the best checkpoint, and the last dev score less the best."""
    config, log = run.read_config(), run.read_metrics()
    speeds = [line["perf/anchors_per_s"] for line in log if "perf/anchors_per_s" in line]
    curve = [(line["step"] + 1, line[config["monitor"]]) for line in log if config["monitor"] in line]
    best_step, best = max(curve, key=lambda point: point[1])
    return {
        "seconds": sum(config["data"]["batch_size"] / speed for speed in speeds),
        "best_step": best_step,
        "last_less_best": curve[-1][1] - best,
    }


def over_seeds(seeds: Seeds, name: str) -> Value | None:
    """Mean and standard deviation of a number; None where a seed has none."""
    numbers = [numbers[name] for numbers in seeds.values() if name in numbers]
    if not numbers or len(numbers) < len(seeds):
        return None
    return Value(statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None)


def markdown(rows: Mapping[str, Seeds], by: Sequence[str]) -> str:
    """The table: mean ± standard deviation over seeds; in bold what no other row beats in both STS and perplexity."""
    unbeaten = front({name: mean(seeds) for name, seeds in points(rows).items()})
    lines = [[", ".join(by), *(how.heading for how in SHOWN.values())], ["---", *["---:"] * len(SHOWN)]]
    for name, seeds in rows.items():
        cells = (value_cell(over_seeds(seeds, key), how).text for key, how in SHOWN.items())
        lines.append([f"**{name}**" if name in unbeaten else name, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def points(rows: Mapping[str, Seeds]) -> dict[str, list[tuple[float, float]]]:
    """Of the seeds of each row that has both: perplexity, as a multiple of the base's, and average STS × 100."""
    both = {
        name: [(numbers["perplexity"], 100 * numbers["sts"]) for numbers in seeds.values()]
        for name, seeds in rows.items()
        if all({"perplexity", "sts"} <= numbers.keys() for numbers in seeds.values())
    }
    return {name: [(x / both[BASE][0][0], y) for x, y in seeds] for name, seeds in both.items()} if BASE in both else {}


def main() -> None:
    """Read the command line; write results, table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by", nargs="+", default=["run_name"], metavar="KEY")
    parser.add_argument("--out", type=Path, help="where to write; FOLDER unless given")
    chosen = parser.parse_args()
    out = chosen.out or chosen.folder
    with telling_errors():
        rows = read_results(chosen.folder, chosen.by)
        write_json(out / "results.json", rows)
        write_text(out / "table.md", markdown(rows, chosen.by))
        if drawn := points(rows):
            draw(drawn, out / "tradeoff.png")
    print(markdown(rows, chosen.by))


if __name__ == "__main__":
    main()
