"""Two processes do what one does, and nobody but the first prints and writes.

An epoch of 29 rows has five steps: four of 7, which two processes cannot share evenly, and one of a single row,
which leaves the second process without any. The 8 dev rows are cut into 7 and 1.
"""

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


@pytest.mark.parametrize(
    ("precision", "dtype", "choice"),
    [
        ("32-true", torch.float32, ["objective=preference"]),
        ("64-true", torch.float64, ["objective=preference_nll_kl", "loss=mpo"]),  # sees the whole step
        ("64-true", torch.float64, ["objective=joint"]),
        ("64-true", torch.float64, ["objective=joint", "data.negatives.in_batch=3"]),
    ],
)
def test_two_processes_do_what_one_does(train, command, every_step, steps, tmp_path, precision, dtype, choice):
    words = [*every_step, *UNEVEN, f"trainer.precision={precision}", *choice]
    done = command(tmp_path / "two", *words, *TWO)
    assert done.returncode == 0, done.stderr
    one, two = train(tmp_path / "one", *words), RunDir(tmp_path / "two")
    assert len(steps(one).losses) == 5
    assert {weight.dtype for weight in steps(two).weights.values()} == {dtype}
    steps(one).assert_equal(steps(two), tolerance=1e-6)
    assert len(probes(one)) == 5
    for left, right in zip(probes(one), probes(two), strict=True):
        assert left["step"] == right["step"]
        assert left["val/loss"] == pytest.approx(right["val/loss"], abs=1e-6)
        assert left["val/rewards/accuracies"] == right["val/rewards/accuracies"]

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


@pytest.mark.skipif(sys.platform != "linux", reason="finds the second process in /proc")
def test_the_death_of_the_second_process_is_told_by_the_first(command, tmp_path):
    def kill_second(process, run):
        while process.poll() is None and not run.metrics.exists():
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (second,) = (pid for pid in children if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(int(second), signal.SIGKILL)

    done = command(tmp_path / "run", *TWO, "trainer.max_epochs=1000", meanwhile=kill_second)
    assert done.returncode == 1
    assert done.stderr.startswith("error: a process of this run died (")
    assert done.stderr.strip().count("\n") == 0
