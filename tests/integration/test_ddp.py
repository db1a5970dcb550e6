"""Two processes do what one does, and nobody but the first prints and writes.

An epoch of 29 rows has five steps: four of 7, which two processes cannot share evenly, and one of a single row,
which leaves the second process without any. The 8 dev rows are cut into 7 and 1.
"""

import functools
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import torch

from sempa_lightning.artifacts import RunDir

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
UNEVEN = ["data.max_rows=29", "data.batch_size=7"]


def probes(run):
    return [line for line in map(json.loads, run.metrics.read_text().splitlines()) if "val/loss" in line]


# What is computed, in float32 for five steps or in float64 for ten.
# With its own eps, Adam would make a whole step of the rounding of a gradient near zero.
SINGLE, DOUBLE = ["++model.dtype=float32", "+optimizer.eps=1e-4"], ["++model.dtype=float64", "trainer.max_epochs=2"]
CHOICES = [
    [*SINGLE, "objective=preference"],
    [*DOUBLE, "objective=preference_nll_kl", "loss=mpo"],  # sees the whole step
    [*DOUBLE, "objective=contrastive"],
    [*DOUBLE, "objective=joint"],
    [*DOUBLE, "objective=joint", "data.negatives.in_batch=3"],
    [*DOUBLE, "objective=sft", "data/negatives=none", "~eval.preference"],
]


@pytest.fixture(scope="module")
def alone(train, every_step, unmeasured, tmp_path_factory):
    """The run of one process, for each choice."""

    @functools.cache
    def run(*choice):
        words = [*every_step, *UNEVEN, *dict.fromkeys([*unmeasured, *choice])]
        return words, train(tmp_path_factory.mktemp("one"), *words)

    return run


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("choice", CHOICES, ids=" ".join)
def test_two_processes_do_what_one_does(alone, pair, steps, tmp_path, choice, strategy):
    words, one = alone(*choice)
    two = pair(tmp_path, *words, f"trainer={strategy}", "trainer.precision=32-true", "data.micro_batch_tokens=256")
    assert len(steps(one).losses) == (10 if "trainer.max_epochs=2" in choice else 5)
    dtype = torch.float64 if "++model.dtype=float64" in choice else torch.float32
    assert {weight.dtype for weight in steps(two).weights.values()} == {dtype}
    steps(one).assert_equal(steps(two), tolerance=1e-6)
    assert len(probes(one)) == len(steps(one).losses)
    for left, right in zip(probes(one), probes(two), strict=True):
        assert left["step"] == right["step"]
        assert left["val/loss"] == pytest.approx(right["val/loss"], abs=1e-6)
        assert left.get("val/rewards/accuracies") == right.get("val/rewards/accuracies")


def test_the_first_process_alone_prints_and_writes(train, command, tmp_path):
    done = command(tmp_path / "two", *UNEVEN, *TWO)
    assert done.returncode == 0, done.stderr
    one, two = train(tmp_path / "one", *UNEVEN), RunDir(tmp_path / "two")
    assert done.stderr.strip() == ""
    assert done.stdout.count("run folder: ") == done.stdout.count("Before and after training") == 1
    lines = [json.loads(line) for line in two.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [0, 1, 2, 3, 4]
    assert {path.relative_to(two.path) for path in two.path.rglob("*")} == {
        path.relative_to(one.path) for path in one.path.rglob("*")
    }


def test_a_loss_that_is_not_finite_in_the_second_process_is_told_by_the_first(
    command, tiny_arguments, tiny_base, tmp_path
):
    """One row holds a character whose embedding is not a number; the second process gets it in the first step."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    from sempa_lightning.data.rows import Row

    base, data = shutil.copytree(tiny_base, tmp_path / "base"), tmp_path / "rows.jsonl"
    (path,) = (word.partition("=")[2] for word in tiny_arguments if word.startswith("data.train.table.path="))
    order = torch.randperm(41, generator=torch.Generator().manual_seed(0)).tolist()
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    rows[order[1]]["anchor"] += " ☃"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    weights = load_file(base / "model.safetensors")
    token = AutoTokenizer.from_pretrained(base).encode("☃")[-1]
    weights["model.embed_tokens.weight"][token] = torch.nan
    save_file(weights, base / "model.safetensors", {"format": "pt"})

    done = command(tmp_path / "run", *TWO, f"model.path={base}", f"data.train.table.path={data}")
    assert done.returncode == 1
    broken = rows[order[1]]
    name = Row(broken["anchor"], tuple(broken["chosen"]), tuple(broken["rejected"])).id
    assert done.stderr.startswith(f"error: the loss is not finite at step 0 for rows {name}: look at these rows")
    assert done.stderr.strip().count("\n") == 0


def test_a_port_in_use_is_told(command, tmp_path, monkeypatch):
    with socket.create_server(("", 0)) as other:
        monkeypatch.setenv("MASTER_PORT", str(other.getsockname()[1]))
        done = command(tmp_path / "run", *TWO)
    assert done.returncode == 1
    assert f"error: port {os.environ['MASTER_PORT']} is in use: unset MASTER_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_config_in_the_second_process_is_told_by_the_first(command, tmp_path):
    seen = "optimizer.lr='${oc.decode:${oc.env:LOCAL_RANK,0}}'"
    done = command(tmp_path / "run", *TWO, seen)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: process 1 has optimizer.lr=1 and process 0 has optimizer.lr=0: start all with the same words"
    )


def test_a_signal_to_the_first_process_ends_both_between_two_steps(command, tmp_path):
    def terminate(process, run):
        while process.poll() is None and not run.metrics.exists():
            time.sleep(0.1)
        process.terminate()

    run = RunDir(tmp_path / "run")
    done = command(run.path, *TWO, "trainer.max_epochs=1000", meanwhile=terminate)
    assert done.returncode == 75, done.stderr
    assert done.stdout.endswith(f"stopped: resume={run.path} goes on\n")
    assert "error" not in done.stderr
    steps = [line["step"] for line in run.read_metrics() if "train/loss" in line]
    assert steps == list(range(torch.load(run.last_checkpoint, weights_only=True)["global_step"]))


def trainings_of(process):
    """Ids of the trainings that a process has started, in their order."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"sempa_lightning" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the second process in /proc")
def test_the_death_of_the_second_process_is_told_by_the_first(command, tmp_path):
    def kill_second(process, run):
        while process.poll() is None and not run.metrics.exists():
            time.sleep(0.1)
        (second,) = trainings_of(process)
        os.kill(second, signal.SIGKILL)

    done = command(tmp_path / "run", *TWO, "trainer.max_epochs=1000", meanwhile=kill_second)
    assert done.returncode == 1
    assert done.stderr.startswith("error: process 1 of this run died (")
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the second process in /proc")
def test_torchrun_starts_processes_again_and_they_go_on(command, unmeasured, tmp_path, monkeypatch):
    def kill_second(process, run):
        while process.poll() is None and not run.last_checkpoint.exists():
            time.sleep(0.1)
        os.kill(trainings_of(process)[1], signal.SIGKILL)

    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    words = [*TWO, *unmeasured, "~callbacks.probe", "~callbacks.best", "trainer.max_epochs=-1", "trainer.max_steps=20"]
    done = command(tmp_path / "run", *words, meanwhile=kill_second, starter=torchrun)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: ") == 2
    steps = [line["step"] for line in RunDir(tmp_path / "run").read_metrics() if "train/loss" in line]
    assert steps == list(range(20))
