"""Runs that are killed with SIGKILL at random moments, some in the writing of a checkpoint, end as if they never were.

SEMPA_KILLS=20 SEMPA_KILL_SEED=3 pytest tests/integration/test_kills.py -s
"""

import json
import multiprocessing
import os
import random
import socket
import time

import pytest
import torch

from sempa_lightning.artifacts import RunDir
from sempa_lightning.checksums import is_whole_zip as is_whole

KILLS = int(os.environ.get("SEMPA_KILLS", "4"))
SEED = int(os.environ.get("SEMPA_KILL_SEED", time.time_ns() % 1_000_000))
CELLS = [
    *(("preference", 1), ("contrastive", 2), ("joint", 1), ("sft", 2)),
    *(("preference", 2), ("contrastive", 1), ("joint", 2), ("sft", 1)),
]
# Two epochs of five steps of several micro-batches; checkpoints after the steps 2, 4, 6, 8, 10. With dropout.
WORDS = [
    *("data.max_rows=20", "data.batch_size=4", "data.micro_batch_tokens=128", "trainer.max_epochs=2"),
    *("optimizer.lr=1e-2", "adapter.dropout=0.1", "trainer.val_check_interval=2", "logger=jsonl"),
]
# On a disk where everything takes its time a kill may well come in the writing of a checkpoint.
PROCESS = """
import os, sys, time
os.environ.update({environment!r})
sys.argv = {words!r}
fsync = os.fsync
os.fsync = lambda descriptor: (time.sleep(0.05), fsync(descriptor))
from sempa_lightning.entry import run_main
from sempa_lightning.train import main
from lightning.pytorch.utilities import rank_zero_only
rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", 0))  # else it is that of the process which has imported it
sys.stdout = open(os.devnull, "w")
run_main(main)
"""


@pytest.fixture(scope="module")
def forks():
    """Processes that need not import everything anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sempa_lightning.train", "lightning", "peft", "transformers", "datasets"])
    return context


@pytest.fixture
def start(forks, tiny_arguments, unmeasured):
    """Start the processes of a run; the same words each time."""

    def call(run, objective, number):
        own = [f"hydra.run.dir={run.path}", f"paths.cache_dir={run.path}/cache", f"objective={objective}"]
        two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"] * (number - 1)
        shrunk = [word for word in tiny_arguments if not word.startswith(("eval.", "paths.cache_dir"))]
        words = ["train", *shrunk, *unmeasured, *WORDS, *own, *two]
        with socket.create_server(("", 0)) as free:
            port = str(free.getsockname()[1])
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0"}
        processes = []
        for rank in range(number):
            environment = {**group, "LOCAL_RANK": str(rank)} if number > 1 else {}
            code = PROCESS.format(environment=environment, words=words)
            processes.append(forks.Process(target=exec, args=(code, {"__name__": "process"})))
            processes[-1].start()
        return processes

    return call


def finish(processes):
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def half_written(run):
    return [path.name for path in run.checkpoints.glob(".*.ckpt.*")]


def kill(processes, run, draw):
    """Kill a run once it has logged some more lines: then and there, or as soon as it writes a checkpoint.

    Returns:
        What was half-written; None if the run has ended before.
    """
    lines = draw.randrange(1, 12) + len(run.read_metrics())
    wait(lambda: len(run.read_metrics()) >= lines, processes)
    if draw.random() < 0.5:
        time.sleep(draw.random() * 0.2)
    else:
        wait(lambda: half_written(run), processes)
        time.sleep(draw.random() * 0.04)
    if not all(process.is_alive() for process in processes):
        return None
    for process in draw.sample(processes, len(processes)):
        process.kill()
    for process in processes:
        process.join()
    return half_written(run)


def wait(until, processes):
    """Wait for something that a run does, or for its end."""
    while processes[0].is_alive() and not until():
        time.sleep(0.001)


def assert_same_end(run, whole):
    assert history(run) == history(whole)
    for name in ("best", "last", "last-1"):
        assert_same(parts(run, name), parts(whole, name))
    assert run.read_summary() == whole.read_summary()
    assert not half_written(run)


def parts(run, name):
    """What a checkpoint holds that training depends on."""
    checkpoint = torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True)
    keys = ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers", "random_states")
    return {key: checkpoint[key] for key in keys}


def history(run):
    """All that was logged, but for speed and memory."""
    return [
        {key: value for key, value in line.items() if not key.startswith("perf/")}
        for line in map(json.loads, run.metrics.read_text().splitlines())
    ]


def assert_same(one, other):
    """Equal bit for bit, whatever is nested in what."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("place", "objective", "number", "kills"),
    [
        pytest.param(place, *cell, kills, id=f"{cell[0]}, {cell[1]} processes")
        for place, cell in enumerate(CELLS)
        if (kills := len(range(place, KILLS, len(CELLS))))
    ],
)
def test_killed_runs_end_as_if_they_never_were(start, tmp_path, place, objective, number, kills):
    draw = random.Random(SEED + place)
    whole, run, done = RunDir(tmp_path / "whole"), RunDir(tmp_path / "run"), 0
    finish(start(whole, objective, number))
    while done < kills:
        processes = start(run, objective, number)
        if (found := kill(processes, run, draw)) is None:  # it has come to its end before
            finish(processes)
            assert_same_end(run, whole)
            run = RunDir(f"{run.path}_and_another")
            continue
        done += 1
        assert all(map(is_whole, run.resumable_checkpoints))
        kept = [torch.load(path, weights_only=True)["global_step"] for path in run.resumable_checkpoints]
        validated = [line["step"] + 1 for line in run.read_metrics() if "val/loss" in line]
        print(f"\nseed {SEED}: killed after validating {validated}, half-written {found}, whole {kept}", flush=True)
        assert len(validated) < 2 or kept[0] in validated[-2:]  # the checkpoint of the last one may be under way
    finish(start(run, objective, number))
    assert_same_end(run, whole)
