"""Real processes: a trial's first word is a Python program that knows its run folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.sweeps import processes
from sempa_lightning.sweeps.processes import Processes
from sempa_lightning.sweeps.trial import recorded

PROGRAM = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

(folder,) = (word.partition("=")[2].strip("'") for word in sys.argv if word.startswith(("hydra.run.dir=", "resume=")))
run = Path(folder)

def done(**numbers):
    (run / "summary.json").write_text(json.dumps(numbers))

with (run.parent / "ledger").open("a") as ledger:
    ledger.write(run.name)
if sys.argv[1].startswith("resume="):
    done(resumed=1.0)
else:
    exec(sys.argv[1])
"""
DONE = "done(score=1.0)"
SLEEP = "(run / 'begun').touch(); time.sleep(60)"


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


@pytest.fixture
def end(program):
    """Run trials to their end."""

    def run(*trials, devices=(None,), hopeless=lambda _: None):
        return list(Processes(program, devices).run(iter(trials), hopeless))

    return run


def ledger(sweep):
    """The trials in the order in which processes of theirs began."""
    return (sweep.path / "ledger").read_text()


def wait_for(path):
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert path.exists()


@pytest.mark.parametrize(
    ("program_text", "state", "why"),
    [
        (DONE, "done", ""),
        ("sys.exit('error: no luck [1]')", "failed", "no luck [1]"),
        ("try: 1 / 0\nexcept ZeroDivisionError as e: raise KeyError('x') from e", "failed", "ZeroDivisionError: div"),
        ("print('ok'); os.kill(os.getpid(), signal.SIGKILL)", "failed", "died of SIGKILL"),
        ("sys.exit(3)", "failed", "ended with code 3 and no summary"),
        ("pass", "failed", "ended with code 0 and no summary"),
        ("done(); sys.exit(3)", "failed", "ended with code 3 and no summary"),
    ],
)
def test_what_became_of_it(end, trial, program_text, state, why):
    (ended,) = end(trial(0, program_text, beta="0.1"))
    assert ended.state == state
    assert ended.why.startswith(why)
    assert recorded(ended.run) == ended
    assert ended.chosen == {"beta": "0.1"}


def test_a_failure_does_not_stop_the_others(end, trial, sweep):
    ended = end(trial(0, DONE), trial(1, "sys.exit('error: no')"), trial(2, DONE))
    assert [one.state for one in ended] == ["done", "failed", "done"]
    assert ledger(sweep) == "012"


def test_words_and_folder(end, trial, sweep):
    (ended,) = end(trial(0, "done(); (run / 'words').write_text(json.dumps(sys.argv[2:]))", "loss.beta=0.1"))
    words = json.loads((ended.run.path / "words").read_text())
    assert words == ["loss.beta=0.1", f"hydra.run.dir='{sweep.path}/0'", "hydra.mode=RUN"]


def test_as_many_at_a_time_as_there_are_devices(end, trial):
    """Each of two waits for the other."""
    meet = "(run / 'here').touch()\nwhile not (run.parent / str(1 - int(run.name)) / 'here').exists(): time.sleep(.01)"
    ended = end(trial(0, f"{meet}\n{DONE}"), trial(1, f"{meet}\n{DONE}"), devices=("0", "1"))
    assert {one.state for one in ended} == {"done"}


def test_what_is_next_may_depend_on_what_has_ended(program, trial):
    told = []

    def trials():
        for number in range(3):
            assert told == list(range(number))
            yield trial(number, DONE)

    for ended in Processes(program, [None]).run(trials(), lambda _: None):
        told.append(ended.number)
    assert told == [0, 1, 2]


def test_nothing_of_another_process_group_or_w_and_b_run_is_handed_on(end, trial, monkeypatch):
    foreign = ["MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
               "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS", "WANDB_RUN_ID", "PL_GLOBAL_SEED"]  # fmt: skip
    own = ["WANDB_MODE", "WANDB_API_KEY", "SLURM_JOB_ID", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES"]
    for name in [*foreign, *own]:
        monkeypatch.setenv(name, "7")
    (ended,) = end(trial(0, "done(); (run / 'env').write_text(json.dumps(dict(os.environ)))"))
    found = json.loads((ended.run.path / "env").read_text())
    assert not set(foreign) & found.keys()
    assert all(found[name] == "7" for name in own)


def test_each_of_several_sees_its_own_devices(end, trial):
    text = "(run / 'sees').write_text(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(.5); done()"
    ended = end(trial(0, text), trial(1, text), trial(2, text), devices=("0,1", "2,3"))
    seen = {one.number: (one.run.path / "sees").read_text() for one in ended}
    assert (seen[0], seen[1]) == ("0,1", "2,3")
    assert seen[2] in ("0,1", "2,3")


def test_no_process_of_a_trial_that_failed_is_left(end, trial):
    spawn = "p = subprocess.Popen(['sleep', '60']); (run / 'pid').write_text(str(p.pid)); os.kill(os.getpid(), 9)"
    (ended,) = end(trial(0, spawn))
    pid = int((ended.run.path / "pid").read_text())
    time.sleep(0.1)
    assert not alive(pid)


def alive(pid):
    """Whether a process is there, and no zombie."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(found.strip()) and not found.startswith("Z")


@pytest.mark.parametrize("deaf", [False, True])
def test_a_hopeless_trial_is_ended(end, trial, monkeypatch, deaf):
    monkeypatch.setattr(processes, "_GRACE", 0.3)
    text = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" * deaf + SLEEP
    begun = trial(0).run.path / "begun"
    ended = end(
        trial(0, text), trial(1, DONE), hopeless=lambda one: "no hope" if one.number == 0 and begun.exists() else None
    )
    assert [(one.state, one.why) for one in ended] == [("pruned", "no hope"), ("done", "")]


def test_what_was_done_is_not_done_again(end, trial, sweep):
    end(trial(0, DONE), trial(1, "sys.exit(not (run.parent / 'mended').exists() or done())"))
    (sweep.path / "mended").touch()
    ended = end(trial(0, DONE), trial(1, "sys.exit(not (run.parent / 'mended').exists() or done())"))
    assert [one.state for one in ended] == ["done", "done"]
    assert ledger(sweep) == "011"


def test_what_ended_while_nobody_looked_is_done(end, trial, sweep):
    left = trial(0, DONE).became("running")
    left.run.summary.write_text("{}")
    (ended,) = end(trial(0, DONE))
    assert ended.state == recorded(ended.run).state == "done"
    assert not (sweep.path / "ledger").exists()


def test_a_trial_without_checkpoint_begins_again_in_an_empty_folder(end, trial):
    left = trial(0, DONE).became("running")
    (left.run.path / "wandb").mkdir()
    left.run.metrics.write_text("{}\n")
    left.run.output.write_text("what it printed before\n")
    (ended,) = end(trial(0, DONE))
    assert ended.state == "done"
    assert not (left.run.path / "wandb").exists()
    assert not left.run.metrics.exists()
    assert left.run.output.read_text() == "what it printed before\n"


def test_a_trial_with_a_checkpoint_goes_on(end, trial):
    left = trial(0, DONE).became("running")
    left.run.checkpoints.mkdir()
    left.run.last_checkpoint.touch()
    (ended,) = end(trial(0, DONE))
    assert ended.run.read_summary() == {"resumed": 1.0}


def test_another_trial_s_folder_is_left_alone(end, trial):
    end(trial(0, DONE, "loss.beta=0.1"))
    with pytest.raises(UserError, match=r"sweep/0 holds another trial, done\(score=1.0\) loss\.beta=0\.1: "):
        end(trial(0, DONE, "loss.beta=0.2"))


def test_what_a_dead_sweep_s_process_still_works_on_is_waited_for(program, end, trial, sweep):
    """The sweep is killed; its trial ends later, and is not run twice."""
    text = f"(run / 'begun').touch()\nwhile not (run.parent / 'go').exists(): time.sleep(.01)\n{DONE}"
    code = (
        "import sys; from sempa_lightning.artifacts import RunDir; from sempa_lightning.sweeps.trial import Trial\n"
        "from sempa_lightning.sweeps.processes import Processes\n"
        "list(Processes(sys.argv[1:3], [None]).run(iter([Trial(RunDir(sys.argv[3]), (sys.argv[4],))]), lambda _: None))"
    )
    with subprocess.Popen([sys.executable, "-c", code, *program, str(sweep.run(0).path), text]) as first:
        wait_for(sweep.run(0).path / "begun")
        first.kill()
    threading.Timer(0.5, (sweep.path / "go").touch).start()
    ended = end(trial(0, text), trial(1, DONE))
    assert [one.state for one in ended] == ["done", "done"]
    assert ledger(sweep) == "01"


def test_a_sweep_that_is_terminated_ends_its_trials(end, trial):
    one = trial(0, "(run / 'pid').write_text(str(os.getpid())); " + SLEEP)

    def terminate():
        wait_for(one.run.path / "begun")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        end(one)
    thread.join()
    assert stop.value.code == 128 + signal.SIGTERM
    assert not alive(int((one.run.path / "pid").read_text()))
    assert recorded(one.run).state == "running"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
