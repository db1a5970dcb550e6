"""The commands that docs/scaling.md and docs/sweeps.md give for SLURM, on a cluster that is one: see `conftest.py`."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sempa_lightning.artifacts import EmbeddingDir, RunDir, SweepDir
from sempa_lightning.sweeps.trial import recorded_trials

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

DOCS = Path(__file__).parents[3] / "docs"
EXACT = ["objective=preference", "trainer.precision=64-true"]


def documented(page, pattern, *changes):
    """The only place of a page that has a pattern, with some of its words changed."""
    (found,) = re.findall(pattern, (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    for old, new in changes:
        assert old in found
        found = found.replace(old, new)
    return found


@pytest.fixture(scope="module")
def training_script(tiny_arguments):
    """The script that trains on several nodes: for one task on each of two nodes, and a tiny model."""

    def script(folder, *words):
        tiny = shlex.join([*tiny_arguments, "trainer.accelerator=cpu", *EXACT, *words])
        return documented(
            "scaling.md",
            r"```text\n(#!/bin/bash\n#SBATCH --nodes=2.*?)```",
            ("=8", "=1"),
            ("python", sys.executable),
            ("model=llama3", tiny),
            ("runs/train/llama3", str(folder)),
        )

    return script


@pytest.fixture(scope="module")
def sweep(tiny_arguments):
    """Start a sweep over two betas on the tiny scale."""

    def start(folder, *words):
        call = [sys.executable, "-m", "sempa_lightning.train", "-m", "loss.beta=0.1,0.3", *tiny_arguments, *words]
        call += ["objective=preference", "trainer.accelerator=cpu", f"hydra.sweep.dir={folder}"]
        return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def assert_both_were_trained(folder):
    trials = recorded_trials(folder)
    assert [(trial.run.read_config()["objective"]["loss"]["beta"], trial.state) for trial in trials] == [
        (0.1, "done"),
        (0.3, "done"),
    ]
    assert len({trial.run.read_summary()["train/best"] for trial in trials}) == 2


def curves(run):
    """What each step has logged, but for speed and memory."""
    lines = map(json.loads, run.metrics.read_text().splitlines())
    return [{key: value for key, value in line.items() if not key.startswith("perf/")} for line in lines]


def assert_the_same_run(run, other):
    """The same in all curves and in what is measured at the end, but for rounding; embeddings are float32."""
    assert len(curves(run)) == len(curves(other)) > 0
    for left, right in zip(curves(run), curves(other), strict=True):
        assert left == pytest.approx(right, rel=1e-4, abs=1e-5)
    assert run.read_summary() == pytest.approx(other.read_summary(), rel=1e-4, abs=1e-5)


def test_tasks_on_two_nodes_are_one_run(cluster, training_script, train, tmp_path):
    words = ["data.max_rows=29", "data.batch_size=7"]  # the second task has no row of the last step
    job = cluster.submit(training_script(tmp_path / "two", *words))
    one = train(tmp_path / "one", *words, *EXACT)
    assert cluster.wait(job) == "COMPLETED", cluster.printed(job)
    two = RunDir(tmp_path / "two")
    assert_the_same_run(two, one)
    names = [{path.relative_to(run.path) for path in run.path.rglob("*")} for run in (one, two)]
    assert names[0] == names[1]
    assert cluster.printed(job).count("run folder: ") == 1
    assert cluster.printed(job).count("Before and after training") == 1


def test_a_job_that_is_told_to_end_is_queued_again_and_goes_on(cluster, training_script, train, tmp_path):
    words = ["trainer.max_epochs=20", "trainer.val_check_interval=60"]  # of 100 steps, it saves after 60
    run = RunDir(tmp_path / "run")
    job = cluster.submit(training_script(run.path, *words))
    after_ten_more_steps(cluster, job, run, "scancel", "--signal=USR1", job)  # as before the time is up
    after_ten_more_steps(cluster, job, run, "scontrol", "requeue", job)  # as a job that has to make room
    whole = train(tmp_path / "whole", *words, *EXACT)
    assert cluster.wait(job) == "COMPLETED", cluster.printed(job)
    assert cluster.about(job)["Restarts"] == "2"
    assert_the_same_run(run, whole)


def after_ten_more_steps(cluster, job, run, *words):
    """Say something to SLURM by which a job is queued again; it must have saved the last step that it has logged.

    That is none at which it saves anyway.
    """
    before = steps_of(run)
    cluster.wait_for(job, lambda: steps_of(run) > before + 10 or cluster.has_ended(job))
    cluster.ask(*words)
    cluster.wait_for(job, lambda: cluster.about(job)["JobState"] == "PENDING")
    assert before + 10 < steps_of(run) < 60, cluster.printed(job)
    checkpoint = torch.load(run.last_checkpoint, weights_only=True)
    assert checkpoint["global_step"] == steps_of(run)


def steps_of(run):
    return sum("train/loss" in line for line in curves(run)) if run.metrics.is_file() else 0


def test_each_trial_of_a_sweep_is_a_job(cluster, sweep, tmp_path):
    before = len(cluster.states())
    words = ["trainer=ddp", "trainer.devices=2", "hydra.launcher.jobs=2"]
    changes = ("--ntasks-per-node=4", "--ntasks-per-node=2"), ("=4", "=1"), ("=8", "=1")
    prefix = documented("sweeps.md", r"'(hydra\.launcher\.prefix=[^']*)'", *changes)
    with sweep(tmp_path / "sweep", *words, prefix) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    folder = SweepDir(tmp_path / "sweep")
    assert_both_were_trained(folder)
    assert [run.output.read_text().count("run folder: ") for run in folder.runs] == [1, 1]
    assert cluster.states()[before:] == ["COMPLETED"] * 2


def test_a_sweep_that_is_terminated_leaves_no_job(cluster, sweep, tmp_path):
    folder = SweepDir(tmp_path / "sweep")
    words = ["trainer.max_epochs=1000", 'hydra.launcher.prefix=[srun,"--ntasks=1"]']
    with sweep(folder.path, *words) as process:
        while process.poll() is None and not folder.run(0).metrics.is_file():
            time.sleep(0.1)
        assert cluster.states()[-1] == "RUNNING"
        process.terminate()
        printed, _ = process.communicate()
    assert f"stopped: the same command with sweep.resume={folder.path} goes on" in printed
    cluster.await_idle()
    assert cluster.states()[-1] != "COMPLETED"


def test_a_grid_is_an_array_job_of_submitit(cluster, sweep, tmp_path):
    pytest.importorskip("submitit")
    folder = SweepDir(tmp_path / "sweep")
    changes = ("\\\n", ""), ("devices=4", "devices=2"), ("tasks_per_node=4", "tasks_per_node=2"), ("=4", "=1")
    words = documented("sweeps.md", r"trainer=ddp trainer\.devices=4 hydra/launcher=submitit_slurm[^`]*", *changes)
    with sweep(folder.path, *words.split()) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert_both_were_trained(folder)


def test_the_tasks_of_an_array_share_a_corpus(cluster, sentences, tmp_path):
    corpus = tmp_path / "sentences.txt"
    corpus.write_text("\n".join(sentences))
    script = documented(
        "scaling.md",
        r"```text\n(#!/bin/bash\n#SBATCH --array.*?)```",
        ("--array=0-31", "--array=0-1"),
        ("python", sys.executable),
        ("run=runs/train/2026-01-31_12-00-00", "model=tiny_random part_rows=50 device=cpu"),
        ("corpus=sentences.txt hydra.run.dir=vectors", f"corpus={corpus} hydra.run.dir={tmp_path}/vectors"),
    )
    job = cluster.submit(script)
    cluster.await_idle()
    folder = EmbeddingDir(tmp_path / "vectors")
    assert folder.manifest.is_file(), cluster.printed(job)
    assert json.loads(folder.manifest.read_text())["texts"] == len(sentences)
