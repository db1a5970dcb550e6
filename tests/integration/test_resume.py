"""A run that broke off goes on as if it never had."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from sempa_lightning.artifacts import RunDir
from sempa_lightning.evaluation.before_after import BeforeAfter
from sempa_lightning.training.module import TrainingModule

# Two epochs of six steps; checkpoints after the steps 2, 4, 6 (where the epoch ends), 8, 10, 12.
WORDS = ["objective=preference_nll_kl", "trainer.max_epochs=2", "optimizer.lr=1e-2", "monitor=eval/sts/dev/pearson"]


# The same with checkpoints after the steps 4, 8, 12: none where the first epoch ends.
SELDOM = [*WORDS, "trainer.val_check_interval=4", "callbacks.last.keep=3"]


class PowerCut(BaseException):
    """Nothing that anyone could handle."""


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The run that nothing interrupts."""
    return train(tmp_path_factory.mktemp("whole"), *WORDS)


@pytest.fixture(scope="module")
def cut_off(here, tiny_arguments):
    """Start a run and cut it off in the middle of a step: checkpoints lag behind the log."""

    def call(folder, step, *words):
        training_step = TrainingModule.training_step

        def until(module, batch, index):
            if module.global_step == step:
                raise PowerCut
            training_step(module, batch, index)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainingModule, "training_step", until)
            with pytest.raises(PowerCut):
                here(*tiny_arguments, f"hydra.run.dir={folder}", *WORDS, *words)
        return RunDir(folder)

    return call


def checkpoint(run, name):
    return torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True)


def history(run):
    """All that was logged, but for speed and memory."""
    lines = map(json.loads, run.metrics.read_text().splitlines())
    return [{key: value for key, value in line.items() if not key.startswith("perf/")} for line in lines]


def assert_equal(one, other):
    """Tensors bit for bit, everything else as it is."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_equal(value, other[key])
    elif isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


def assert_same_end(run, whole):
    assert history(run) == history(whole)
    steps = [line["step"] for line in map(json.loads, run.metrics.read_text().splitlines()) if "train/loss" in line]
    assert steps == list(range(12))
    for name in ("best", "last"):
        resumed, straight = checkpoint(run, name), checkpoint(whole, name)
        for part in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers"):
            assert_equal(resumed[part], straight[part])
    assert run.read_summary() == whole.read_summary()


@pytest.mark.parametrize("step", [5, 7, 9], ids=["in the first epoch", "between epochs", "in the second epoch"])
def test_a_resumed_run_equals_one_that_was_never_interrupted(here, cut_off, whole, tmp_path, step):
    run = cut_off(tmp_path / "run", step)
    assert checkpoint(run, "last")["global_step"] == step - 1
    assert not run.summary.exists()
    done = here(f"resume={run.path}")
    assert done.returncode == 0, done.stderr
    assert_same_end(run, whole)


def test_a_run_that_broke_off_after_its_last_step_takes_no_other(here, train, tmp_path):
    """The last step is validated, though it is no multiple of the interval; the measurement after it may take hours."""
    whole = train(tmp_path / "whole", *WORDS, "trainer.val_check_interval=5")
    run = RunDir(shutil.copytree(whole.path, tmp_path / "run"))
    run.summary.unlink()
    done = here(f"resume={run.path}")
    assert done.returncode == 0, done.stderr
    assert_same_end(run, whole)


@pytest.fixture(scope="module")
def seldom(train, tmp_path_factory):
    """As `whole`, with fewer checkpoints."""
    return train(tmp_path_factory.mktemp("seldom"), *SELDOM)


def test_the_last_checkpoints_are_kept(whole, seldom):
    for run, steps in ((whole, [12, 10]), (seldom, [12, 8, 4])):
        kept = [torch.load(path, weights_only=True)["global_step"] for path in run.resumable_checkpoints]
        assert kept == steps
        assert len(list(run.checkpoints.iterdir())) == 1 + len(steps)


@pytest.mark.parametrize(
    ("number", "step", "done", "more"),
    [
        (signal.SIGTERM, 1, 2, []),
        (signal.SIGINT, 3, 4, []),  # a validation follows
        (signal.SIGUSR1, 5, 7, []),  # the first epoch ends
        (signal.SIGTERM, 7, 8, ["trainer.max_steps=12"]),  # for Lightning another way to count
        (signal.SIGTERM, 11, 12, []),  # nothing is left but to evaluate
    ],
)
def test_a_signal_ends_a_run_between_two_steps(here, tiny_arguments, seldom, tmp_path, number, step, done, more):
    """It has a checkpoint of the steps that are done, and the same command goes on from there."""
    words = [*tiny_arguments, f"hydra.run.dir={tmp_path}/run", *SELDOM, *more]
    training_step, handlers = TrainingModule.training_step, [signal.getsignal(one) for one in (2, 10, 15)]

    def signalled(module, batch, index):
        if module.global_step == step:
            signal.raise_signal(number)
        training_step(module, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", signalled)
        stopped = here(*words)
    run = RunDir(tmp_path / "run")
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stdout.endswith(f"stopped: resume={run.path} goes on\n")
    assert [signal.getsignal(one) for one in (2, 10, 15)] == handlers
    assert checkpoint(run, "last")["global_step"] == done
    assert not run.summary.exists()
    resumed = here(*words)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_end(run, seldom)


def test_a_signal_outside_the_training_ends_a_run_at_once(here, cut_off, tiny_arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(BeforeAfter, "measure", lambda *_: signal.raise_signal(signal.SIGTERM))
    done = here(*tiny_arguments, f"hydra.run.dir={tmp_path}/new")
    assert done.returncode == 75
    assert done.stdout.endswith("stopped: nothing to resume yet, run the same command again\n")


@pytest.mark.parametrize("harm", [lambda content: content[: len(content) // 2], lambda _: b""], ids=["half", "empty"])
def test_a_damaged_checkpoint_is_passed_over(here, cut_off, whole, tmp_path, harm):
    run = cut_off(tmp_path / "run", 9)
    run.last_checkpoint.write_bytes(harm(run.last_checkpoint.read_bytes()))
    (run.checkpoints / ".best.ckpt.99").write_bytes(b"half a ch")  # as a kill may leave it
    done = here(f"resume={run.path}")
    assert done.returncode == 0, done.stderr
    assert f"{run.last_checkpoint} is not whole: going on from the one before, last-1.ckpt\n" in done.stdout
    assert_same_end(run, whole)
    assert {path.name for path in run.checkpoints.iterdir()} == {"best.ckpt", "last.ckpt", "last-1.ckpt"}


def test_without_a_whole_checkpoint_nothing_goes_on(here, cut_off, tmp_path):
    run = cut_off(tmp_path / "run", 5)
    best = run.checkpoints / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-100])
    done = here(f"resume={run.path}")
    assert done.returncode == 1
    assert done.stderr == f"error: {best} is not whole: copy it again, or start the run again\n"
    for path in run.resumable_checkpoints:
        path.write_bytes(path.read_bytes()[:-100])
    done = here(f"resume={run.path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {run.checkpoints} has no whole checkpoint (last.ckpt, last-1.ckpt): copy")
    assert len(run.resumable_checkpoints) == 2


def test_a_training_that_has_ended_early_is_not_gone_on_with(here, tiny_arguments, train, tmp_path):
    """The run breaks off when it evaluates what it has trained."""
    words = ["objective=preference", "callbacks=kl_stop", "callbacks.best.budget=1e-12", "optimizer.lr=1e-2"]
    words += ["callbacks.probe.suites.generation.dev.max_texts=2"]
    whole, run, measure = train(tmp_path / "whole", *words), RunDir(tmp_path / "run"), BeforeAfter.measure

    def until(comparison, stage):
        if stage == "after":
            raise PowerCut
        measure(comparison, stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BeforeAfter, "measure", until)
        with pytest.raises(PowerCut):
            here(*tiny_arguments, f"hydra.run.dir={run.path}", *words)
    done = here(f"resume={run.path}")
    assert done.returncode == 0, done.stderr
    assert run.read_summary() == whole.read_summary()
    assert run.read_summary()["train/steps"] == 2


@pytest.mark.parametrize("objective", ["preference", "contrastive", "joint"])
def test_dropout_goes_on_with_the_same_random_numbers(here, train, every_step, unmeasured, objective, tmp_path):
    """The last two of four steps are done again, in a new folder."""
    words = [*every_step, *unmeasured, f"objective={objective}", "adapter.dropout=0.3", "trainer.max_steps=4"]
    whole, again = train(tmp_path / "whole", *words), RunDir(tmp_path / "again")
    again.checkpoints.mkdir(parents=True)
    shutil.copy(whole.config, again.config)
    shutil.copy(whole.checkpoints / "step=2.ckpt", again.last_checkpoint)
    done = here(f"resume={again.path}")
    assert done.returncode == 0, done.stderr
    for name in ("step=3", "step=4"):
        resumed, straight = checkpoint(again, name), checkpoint(whole, name)
        for part in ("state_dict", "optimizer_states"):
            assert_equal(resumed[part], straight[part])


def test_a_run_folder_can_be_moved_before_it_is_resumed(here, cut_off, whole, tiny_base, tmp_path):
    """From one whose path begins that of the model, into one with spaces and too long for one line of YAML."""
    run = cut_off(tiny_base.with_name(tiny_base.name[:-1]), 9)
    assert checkpoint(whole, "best")["global_step"] <= 8  # so that it must not be forgotten on the way
    folder = tmp_path / ("a new place " * 8).strip() / "run"
    folder.parent.mkdir()
    shutil.move(run.path, folder)
    done = here(f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert_same_end(RunDir(folder), whole)
    assert not run.path.exists()


def test_trainer_and_logger_may_change(here, cut_off, tmp_path, monkeypatch):
    run = cut_off(tmp_path / "run", 5)
    config, manifest = run.read_config(), run.manifest.read_bytes()
    monkeypatch.chdir(tmp_path)
    done = here("resume=run", "trainer.max_steps=6", "logger=tensorboard")
    assert done.returncode == 0, done.stderr
    assert run.read_summary()["train/steps"] == 6
    assert list((run.path / "tensorboard").glob("events.*"))
    assert run.manifest.read_bytes() == manifest
    now = run.read_config()
    assert now["trainer"] == {**config["trainer"], "max_steps": 6}
    assert {**now, "trainer": 0, "logger": 0} == {**config, "trainer": 0, "logger": 0}
    assert now["logger"] != config["logger"]


@pytest.mark.parametrize("word", ["loss.beta=0.5", "model=llama3", "+loss.extra=1", "seed=1", "data.batch_size=4"])
def test_nothing_else_may_change(here, whole, word):
    before = {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()}
    done = here(f"resume={whole.path}", word)
    assert done.returncode == 1
    message = f"error: a resumed run keeps its config: drop {word}; only trainer and logger may change\n"
    assert done.stderr == message
    assert {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()} == before


def test_fewer_steps_than_are_done_are_refused(here, whole):
    before = {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()}
    done = here(f"resume={whole.path}", "trainer.max_steps=1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: trainer.max_steps: 1 is below the ")
    assert {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()} == before


def test_there_must_be_a_run_to_go_on_with(here, tmp_path):
    done = here(f"resume={tmp_path}")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path} is no run folder: it has no config.yaml\n"


def test_there_must_be_a_checkpoint_to_go_on_from(here, cut_off, tmp_path):
    run = cut_off(tmp_path / "run", 1)
    done = here(f"resume={run.path}")
    assert done.returncode == 1
    assert done.stderr == f"error: {run.path} has no checkpoint to go on from (last.ckpt); start the run again\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (WORDS, "holds a run that has ended: name a new folder"),
        ([*WORDS, "seed=1"], "holds something else already, with another data, seed: name a new folder"),
    ],
)
def test_a_new_run_does_not_write_over_an_old_one(here, tiny_arguments, whole, words, message):
    before = {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()}
    done = here(*tiny_arguments, f"hydra.run.dir={whole.path}", *words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {whole.path} {message}")
    assert {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (1, False)])
def test_the_documented_job_is_requeued_where_the_run_can_go_on(tmp_path, code, requeued):
    docs = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    (script,) = re.findall(r"^#!/bin/bash\n(?:(?!```).*\n)*?.*sempa_lightning\.train.*\n(?:(?!```).*\n)*", docs, re.M)
    for name, words in {"srun": f"exit {code}", "scontrol": f'echo "$@" > {tmp_path}/asked'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{words}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == code
    assert (tmp_path / "asked").exists() == requeued
    assert not requeued or (tmp_path / "asked").read_text() == "requeue 17\n"


def test_more_steps_follow_the_schedule_of_all_steps(here, train, unmeasured, tmp_path):
    """The cosine of 3 steps has ended at 0; that of 6 is half-way down there."""
    run = train(tmp_path / "run", *unmeasured, "trainer.max_steps=3", "scheduler.warmup_ratio=0.0", "optimizer.lr=1e-2")
    done = here(f"resume={run.path}", "trainer.max_steps=6")
    assert done.returncode == 0, done.stderr
    assert "trainer.max_steps: 3 → 6\n" in done.stdout
    assert run.read_config()["trainer"]["max_steps"] == 6
    rates = [line["train/learning_rate"] for line in history(run) if "train/learning_rate" in line]
    expected = [0.005 * (1 + math.cos(math.pi * step / steps)) for step, steps in enumerate([3] * 3 + [6] * 3)]
    assert rates == pytest.approx(expected, abs=1e-8)


def test_another_trainer_says_where_a_run_goes_on_and_not_how_long(tmp_path):
    """By default the command trains on the demonstration set for 100 steps."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from sempa_lightning.entry import conf_dir, resumed_config

    length = [
        "trainer.max_steps=4",
        "trainer.val_check_interval=2",
        "+trainer.max_time=00:01:00:00",
        "+trainer.deterministic=true",
    ]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        saved = compose("train", [f"paths.run_dir={tmp_path}", "trainer=ddp", *length])
        (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(saved, resolve=True))
        words = [f"resume={tmp_path}", "trainer.log_every_n_steps=3", "trainer=cpu"]
        trainer = resumed_config(compose("train", [*words, f"paths.run_dir={tmp_path}"]), words).trainer
    own = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}
    before = {name: value for name, value in saved.trainer.items() if name != "strategy"}
    assert dict(trainer) == {**before, **own, "log_every_n_steps": 3}
