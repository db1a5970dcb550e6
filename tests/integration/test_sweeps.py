"""Sweeps from the command line: the real commands, most of them with a program for `train` that ends at once."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sempa_lightning.artifacts import SweepDir
from sempa_lightning.sweeps.trial import recorded_trials

# Stands for `sempa_lightning.train`: scores a trial by its words, and fails where there is no good place for beta.
PROGRAM = """
import json, os, sys, time
from pathlib import Path

words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
run = Path(words["hydra.run.dir"].strip("'"))
with open(run.parent / "ledger", "a") as ledger:
    ledger.write(run.name + " ")
(run / "words.json").write_text(json.dumps(sys.argv[1:]))
states = {path.parent.name: json.loads(path.read_text())["state"] for path in run.parent.glob("*/trial.json")}
(run / "states.json").write_text(json.dumps(states))
time.sleep(float(os.environ.get("SECONDS_OF_A_TRIAL", "0")))
beta, rate = float(words["loss.beta"]), float(words.get("optimizer.lr", 1e-3))
if beta == 0.13 and "MENDED" not in os.environ:
    sys.exit("error: no luck with 0.13")
score = 1 - (beta - 0.1) ** 2 - rate
for probe in range(4):
    with open(run / "metrics.jsonl", "a") as lines:
        lines.write(json.dumps({"step": probe, "eval/sts/dev/spearman": score}) + "\\n")
    time.sleep(0.3 if "sweep=asha" in os.environ.get("SLOW", "") else 0)
numbers = {"train/best": score, "after/sts/demo/spearman": score, "after/generation/demo/perplexity": 9 + rate}
(run / "summary.json").write_text(json.dumps(numbers))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Words that have a sweep run the program above."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "trial_program.py").write_text(PROGRAM)
    return ["hydra.launcher.module=trial_program", "model=tiny_random"]


@pytest.fixture
def sweep(here, program, tmp_path):
    """Sweep in this process; its folder, and what it printed."""

    def call(*words, code=0, folder="sweep"):
        if not any(word.startswith("sweep.resume=") for word in words):
            words = (*words, f"hydra.sweep.dir={tmp_path}/{folder}")
        done = here("-m", *words, *program)
        assert done.returncode == code, done.stdout + done.stderr
        return SweepDir(tmp_path / folder), done

    return call


def ledger(folder):
    """Numbers of the trials in the order in which they began."""
    path = folder.path / "ledger"
    return path.read_text().split() if path.exists() else []


def one_line(done):
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("error: ").rstrip("\n")


def chosen(folder):
    return [dict(trial.chosen) for trial in recorded_trials(folder)]


def test_a_failing_trial_does_not_end_a_sweep_and_is_run_again(sweep, monkeypatch):
    words = ["loss.beta=0.05,0.13,0.2", "seed=1"]
    folder, done = sweep(*words, code=1)
    assert [trial.state for trial in recorded_trials(folder)] == ["done", "failed", "done"]
    assert chosen(folder) == [{"loss.beta": "0.05"}, {"loss.beta": "0.13"}, {"loss.beta": "0.2"}]
    table = done.stdout.partition("The sweep")[2]
    assert "1 loss.beta=0.13 failed: no luck with 0.13" in table
    assert "0.9965" in table  # 1 - 0.05² - 0.001
    with folder.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["loss.beta"], row["state"], row["why"]) for row in rows] == [
        ("0.05", "done", ""),
        ("0.13", "failed", "no luck with 0.13"),
        ("0.2", "done", ""),
    ]
    assert float(rows[2]["train/best"]) == pytest.approx(1 - 0.01 - 0.001)
    states = json.loads((folder.run(0).path / "states.json").read_text())
    assert states == {"0": "running", "1": "queued", "2": "queued"}

    monkeypatch.setenv("MENDED", "1")
    sweep(*words, f"sweep.resume={folder.path}")
    assert [trial.state for trial in recorded_trials(folder)] == ["done"] * 3
    assert ledger(folder) == ["0", "1", "2", "1"]


def test_a_job_gets_its_own_words_alone(sweep, tmp_path):
    (tmp_path / "mine").mkdir()
    folder, _ = sweep(f"--config-dir={tmp_path}/mine", "loss.beta=0.1,0.2", "+trainer.deterministic=true",
                      "sweep.maximize=[after/sts/demo/spearman]", "hydra.verbose=false")  # fmt: skip
    words = json.loads((folder.run(1).path / "words.json").read_text())
    assert words == [
        f"--config-dir={tmp_path}/mine", "hydra.verbose=false", "loss.beta=0.2", "+trainer.deterministic=True",
        "model=tiny_random", f"hydra.run.dir='{folder.path}/1'", "hydra.mode=RUN",
    ]  # fmt: skip


def test_a_search_that_is_killed_goes_on_where_it_was(sweep, program, tmp_path, monkeypatch):
    """No trial is lost, none is run twice, and the trials are those of a search that nobody killed."""
    words = ["sweep=tpe", "sweep.trials=6", "loss.beta=interval(0.01,1)", "optimizer.lr=tag(log,interval(1e-5,1e-2))"]
    whole, _ = sweep(*words, folder="whole")
    assert ledger(whole) == [str(number) for number in range(6)]

    killed = SweepDir(tmp_path / "killed")
    command = [sys.executable, "-m", "sempa_lightning.train", *words, *program, f"hydra.sweep.dir={killed.path}"]
    environment = {**os.environ, "SECONDS_OF_A_TRIAL": "0.5"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while len(ledger(killed)) < 3 and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert ledger(killed) == ["0", "1", "2"]
    sweep(*words, f"sweep.resume={killed.path}")
    assert ledger(killed) == [str(number) for number in range(6)]
    assert chosen(killed) == chosen(whole)
    assert [trial.state for trial in recorded_trials(killed)] == ["done"] * 6


def test_trials_at_a_time(sweep):
    spaces = ["loss.beta=interval(0.01,1)", "adapter.r=int(interval(2,32))"]
    folder, _ = sweep("sweep=tpe", "sweep.trials=6", *spaces, "hydra.launcher.jobs=3")
    assert sorted(ledger(folder)) == [str(number) for number in range(6)]
    assert [trial.state for trial in recorded_trials(folder)] == ["done"] * 6
    assert all(int(trial.chosen["adapter.r"]) in range(2, 33) for trial in recorded_trials(folder))


def test_several_objectives_give_the_pareto_set(sweep):
    """A larger rate costs both; so the smallest rate at each beta is unbeaten, or beaten by a better beta alone."""
    goals = ["sweep.maximize=[after/sts/demo/spearman]", "sweep.minimize=[after/generation/demo/perplexity]"]
    folder, _ = sweep("sweep=tpe", "sweep.trials=5", "loss.beta=0.05,0.1", "optimizer.lr=interval(0.1,0.2)", *goals)
    with folder.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [(float(row["after/sts/demo/spearman"]), -float(row["after/generation/demo/perplexity"])) for row in rows]
    expected = [not any(a > c and b > d for a, b in scores) for c, d in scores]
    assert [row["unbeaten"] == "1" for row in rows] == expected
    assert any(expected)


def test_hopeless_trials_are_ended(sweep, monkeypatch):
    monkeypatch.setenv("SLOW", "sweep=asha")
    folder, done = sweep("sweep=asha", "sweep.trials=4", "loss.beta=interval(0.01,1)")
    trials = recorded_trials(folder)
    best = 0
    for trial in trials:
        beta = float(trial.chosen["loss.beta"])
        expected = "done" if abs(beta - 0.1) <= abs(float(trials[best].chosen["loss.beta"]) - 0.1) else "pruned"
        best = trial.number if expected == "done" else best
        assert trial.state == expected
        assert bool(trial.why) == (expected == "pruned")
    assert {trial.state for trial in trials} == {"done", "pruned"}
    assert "at probe 1, eval/sts/dev/spearman = " in done.stdout


def test_a_broken_storage_file_is_told_and_rebuilt_from_the_runs(sweep):
    words = ["sweep=tpe", "sweep.trials=3", "loss.beta=interval(0.01,1)"]
    folder, _ = sweep(*words)
    before = chosen(folder)
    folder.study.write_bytes(b"not a database")
    _, done = sweep(*words, f"sweep.resume={folder.path}", code=1)
    assert one_line(done).startswith(f"{folder.study} cannot be read (")
    folder.study.unlink()
    sweep(*words, f"sweep.resume={folder.path}")
    assert chosen(folder) == before
    assert ledger(folder) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["loss.gama=1,2"], "Could not override 'loss.gama'"),
        (["loss=plackett_luce,plackett_lace"], "Could not find 'loss/plackett_lace'"),
        (["sweep=tpe", "loss.gama=interval(0,1)"], "Could not override 'loss.gama'"),
        (["sweep=tpe", "loss=plackett_luce,plackett_lace", "loss.beta=0.1,0.2"], "Could not find 'loss/plackett_lace'"),
        (["sweep=tpe", "loss.beta=0.1"], "nothing to search: give a key several values"),
        (["sweep=tpe", "loss.beta=interval(1,0)"], "loss.beta=interval(1,0): "),
        (["sweep=asha", "loss.beta=0.1,0.2", "sweep.minimize=[a]"], "its one objective is train/best"),
        (
            ["sweep=tpe", "loss.beta=interval(0,1)", "sweep.trials=many"],
            "sweep.trials=many is not a whole number above 0",
        ),
        (["loss.beta=0.1,0.2", "sweep.maximize=train/best"], "is no list: write sweep.maximize=[train/best]"),
        (
            ["sweep=tpe", "loss.beta=0.1,0.2", "sweep.maximize=[]"],
            "a search needs an objective: give sweep.maximize or",
        ),
        (["loss.beta=0.1,0.2", "hydra.launcher.jobs=0"], "hydra.launcher.jobs=0 is not a whole number above 0"),
    ],
)
def test_a_sweep_that_cannot_be_is_told_once_before_any_trial(sweep, words, expected):
    folder, done = sweep(*words, code=1)
    assert expected in one_line(done)
    assert ledger(folder) == []


def test_a_search_needs_a_launcher_that_can_end_a_trial(here):
    done = here("-m", "sweep=tpe", "loss.beta=0.1,0.2", "hydra/launcher=basic")
    assert one_line(done).startswith("sweep=tpe and sweep=asha need hydra/launcher=processes")


def test_without_optuna(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna.pruners", None)
    _, done = sweep("sweep=tpe", "loss.beta=0.1,0.2", code=1)
    assert one_line(done) == "sweep=tpe and sweep=asha need Optuna: pip install 'sempa-lightning[sweep]'"


def test_a_folder_that_cannot_be_resumed(sweep, here, tmp_path):
    folder, _ = sweep("loss.beta=0.1,0.2")
    _, done = sweep("loss.beta=0.1,0.2", code=1)
    assert one_line(done).startswith(f"{folder.path} holds a sweep already: sweep.resume={folder.path} goes on with it")
    _, done = sweep("loss.beta=0.1,0.3", f"sweep.resume={folder.path}", code=1)
    message = f"{folder.path} was begun with other words: resume it with loss.beta=0.1,0.2 model=tiny_random"
    assert one_line(done) == message
    _, done = sweep("loss.beta=0.1,0.2", f"sweep.resume={tmp_path}", code=1)
    assert one_line(done) == f"{tmp_path} is no sweep of runs: it has no sweep.json"
    assert ledger(folder) == ["0", "1"]


@pytest.mark.parametrize("kind", ["grid", "tpe"])
def test_numbered_folders_of_something_else_are_left_alone(sweep, tmp_path, kind):
    """Such as those of a sweep of evaluations."""
    kept = tmp_path / "sweep" / "0" / "results" / "sts.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    folder, done = sweep(f"sweep={kind}", "loss.beta=0.1,0.2", code=1)
    message = (
        f"{folder.path} holds 0/, which is no run of a sweep that can go on: name a new folder with hydra.sweep.dir=…"
    )
    assert one_line(done) == message
    assert kept.read_text() == "{}"


def test_a_launcher_that_calls_the_job_itself(here, tmp_path):
    """As submitit does: a job that ends early does not end the sweep, and is in its table."""
    done = here("-m", "model=tiny_random", "seed=x,y", "hydra/launcher=basic", f"hydra.sweep.dir={tmp_path}/sweep")
    assert done.returncode == 1
    assert done.stderr.count("error: seed: ") == 2
    states = [(trial.state, trial.chosen["seed"]) for trial in recorded_trials(SweepDir(tmp_path / "sweep"))]
    assert states == [("failed", "x"), ("failed", "y")]


def test_submitit_can_send_the_job():
    """It sends what is in `__main__` whole, not by name."""
    pytest.importorskip("cloudpickle")
    lines = [
        "import cloudpickle",
        "from sempa_lightning import train",
        "cloudpickle.register_pickle_by_value(train)",
        "assert callable(cloudpickle.loads(cloudpickle.dumps(train.main)))",
    ]
    done = subprocess.run([sys.executable, "-c", "; ".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_submitit_composes():
    from hydra import compose, initialize_config_dir

    from sempa_lightning.entry import conf_dir

    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", ["hydra/launcher=submitit_slurm", "trainer=ddp"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_.endswith("submitit_launcher.SlurmLauncher")
