"""Train and evaluate all arms of the study.

python experiments/tradeoff/run.py FOLDER [--arms ARM…] [--seeds 0 1 2] [--cores 2] [--train WORD…] [--evaluate WORD…]

A run is two commands, each on one thread: `sempa_lightning.train` into FOLDER/train/<arm>/<seed>, and
`sempa_lightning.evaluate` into FOLDER/evaluate/<arm>/<seed>; the base is measured once, into FOLDER/evaluate/base. What
they print is in FOLDER/log. The same call goes on
where an earlier one was stopped. Words are handed on to the commands, such as `--train optimizer.lr=1e-3`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path

from sempa_lightning.artifacts import EvaluationDir, RunDir
from sempa_lightning.entry import conf_dir

BASE = "base"
ARMS = sorted(path.stem for path in Path(conf_dir(), "experiment", "tradeoff").glob("*.yaml"))
# Both sides of the trade, but for what the table does not show.
SUITES = [
    "eval=[sts,clustering,geometry,generation_full,harness_local]",
    *("~eval.sts.demo", "~eval.clustering.banking77_legacy"),
    *("~eval.clustering.searchsnippets", "~eval.clustering.searchsnippets_legacy"),
    *("~eval.geometry.demo", "~eval.geometry.demo_paraphrases", "~eval.geometry.stsb_paraphrases"),
    *("~eval.harness_local.arc_easy", "~eval.harness_local.openbookqa"),
]


def commands(folder: Path, name: str, words: argparse.Namespace) -> list[list[str]]:
    """What is left to do for a run, `<arm>/<seed>`: train it or go on with it, then measure what is not measured.

    The base needs no training.
    """
    run, evaluation = RunDir(folder / "train" / name), EvaluationDir(folder / "evaluate" / name)
    arm, _, seed = name.partition("/")
    left = []
    if name != BASE and not run.summary.is_file():
        start = [f"experiment=tradeoff/{arm}", f"seed={seed}", f"hydra.run.dir={run.path}", *words.train]
        left.append(["train", *([f"resume={run.path}"] if run.last_checkpoint.is_file() else start)])
    if not evaluation.summary.is_file() or any("failed" in result for result in evaluation.read_results().values()):
        subject = ["model=nano"] if name == BASE else [f"run={run.path}", "subjects=[after]"]
        left.append(["evaluate", *subject, f"hydra.run.dir={evaluation.path}", *SUITES, *words.evaluate])
    return left


def call(folder: Path, name: str, left: Sequence[Sequence[str]]) -> float:
    """Run commands one after the other.

    Returns:
        Seconds.

    Raises:
        CalledProcessError: If one fails.
    """
    log = folder / "log" / f"{name.replace('/', '_')}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("a", encoding="utf-8") as lines:
        for command, *words in left:
            call = [sys.executable, "-m", f"sempa_lightning.{command}", *words]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            subprocess.run(call, stdout=lines, stderr=subprocess.STDOUT, env=environment, check=True)
    return time.monotonic() - start


def main() -> None:
    """Do what is left; a run that fails does not end the others, and the exit code is then 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cores", type=int, default=1, help="runs at a time")
    parser.add_argument("--train", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--evaluate", nargs="*", default=[], metavar="WORD")
    chosen = parser.parse_args()
    # Seed by seed, so that a study that is stopped has something of every arm.
    names = [BASE, *(f"{arm}/{seed}" for seed, arm in product(chosen.seeds, chosen.arms))]
    todo = {name: left for name in names if (left := commands(chosen.folder, name, chosen))}
    print(f"{len(names) - len(todo)} of {len(names)} runs are done", flush=True)
    pool = ThreadPoolExecutor(chosen.cores)
    started = {pool.submit(call, chosen.folder, name, left): name for name, left in todo.items()}
    try:
        failed = follow(started, chosen.cores)
    finally:
        pool.shutdown(cancel_futures=True)
    sys.exit(bool(failed))


def follow(started: Mapping[Future[float], str], cores: int) -> int:
    """Tell how each run ended, and when the last will.

    Returns:
        How many failed.
    """
    seconds: list[float] = []
    failed = 0
    for done in as_completed(started):
        if error := done.exception():
            failed += 1
            print(f"{started[done]} failed: {error}", flush=True)
            continue
        seconds.append(done.result())
        left = len(started) - len(seconds) - failed
        minutes = statistics.mean(seconds) * left / cores / 60
        print(f"{started[done]}: {seconds[-1]:.0f} s; {left} left, about {minutes:.0f} min", flush=True)
    return failed


if __name__ == "__main__":
    main()
