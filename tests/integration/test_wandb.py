"""What W&B gets of runs, read back from the files of offline runs."""

import json
import os
import shutil
import struct
import subprocess
import sys

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from sempa_lightning import dashboard
from sempa_lightning.artifacts import RunDir, SweepDir
from sempa_lightning.dashboard import Panel, panels, workspace
from sempa_lightning.errors import UserError
from sempa_lightning.sweeps.trial import Trial, recorded_trials
from sempa_lightning.training.module import TrainingModule
from sempa_lightning.training.wandb_logger import RunLogger

WORDS = ["logger=wandb", "run_name=one"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
PLACES = {"epoch", "trainer/global_step", "_step", "_runtime", "_timestamp"}
_HEADER, _BLOCK, _WHOLE, _LAST = 7, 32768, 1, 4


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def fail_at(monkeypatch):
    """Have the disk be full at a step, None to have room again."""
    train = TrainingModule.training_step

    def call(step):
        def training_step(module, *batch):
            if module.global_step == step:
                raise OSError(28, "No space left on device", "/full")
            train(module, *batch)

        monkeypatch.setattr(TrainingModule, "training_step", training_step)

    return call


def files(run):
    """The files of the W&B runs in a run folder, oldest first."""
    wandb.teardown()  # waits until all is written
    return sorted(run.path.glob("wandb/offline-run-*/run-*.wandb"))


def records(path):
    """The records in a file: LevelDB's log format behind a header of seven bytes."""
    content, at, parts, found = path.read_bytes(), _HEADER, b"", []
    while at + _HEADER <= len(content):
        if _BLOCK - at % _BLOCK < _HEADER:  # no header is cut by the end of a block
            at += _BLOCK - at % _BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + _HEADER : at + _HEADER + size]
        at += _HEADER + size
        if kind in (_WHOLE, _LAST):
            found.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return found


def values(items):
    return {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}


def config_of(found):
    return values(item for record in found if record.HasField("config") for item in record.config.update)


def summary_of(found):
    return values(item for record in found if record.HasField("summary") for item in record.summary.update)


def begun(found):
    (run,) = (record.run for record in found if record.HasField("run"))
    return run


def exit_codes(found):
    return [record.exit.exit_code for record in found if record.HasField("exit")]


def history(found):
    return [values(record.history.item) for record in found if record.HasField("history")]


def logged(found):
    """All that was logged, as (step, key, value)."""
    return [(row["trainer/global_step"], key, row[key]) for row in history(found) for key in row.keys() - PLACES]


def assert_told(found, run):
    config = config_of(found)
    assert {key: config[key] for key in run.read_config()} == run.read_config()
    assert config["manifest"] == run.read_manifest()
    assert config["manifest"]["data"]["train"]["kept"] == 41


def assert_numbers(found, run):
    """Every number of the run's own log, once, over the step; those of its summary in the summary of W&B, too."""
    lines = run.read_metrics()
    numbers = {(line["step"], key): line[key] for line in lines for key in line.keys() - {"step", "epoch"}}
    pairs = [(step, key) for step, key, _ in logged(found)]
    assert len(pairs) == len(set(pairs)), "nothing is logged twice"
    shown = {(step, key): value for step, key, value in logged(found) if not key.startswith(("tables/", "pictures/"))}
    assert shown.keys() == numbers.keys()
    same = [pair for pair in numbers if not pair[1].startswith("perf/")]
    assert [shown[pair] for pair in same] == pytest.approx([numbers[pair] for pair in same])
    assert {key: summary_of(found)[key] for key in run.read_summary()} == pytest.approx(run.read_summary())
    (everything,) = (record.metric for record in found if record.HasField("metric") and record.metric.glob_name == "*")
    assert everything.step_metric == "trainer/global_step"


def table(run, found, name):
    (place,) = (value for _, key, value in logged(found) if key == f"tables/{name}/path")
    (path,) = run.path.glob(f"wandb/offline-run-*/files/{place}")
    content = json.loads(path.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """A run that ended well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        return train(tmp_path_factory.mktemp("first"), *WORDS, "trainer.max_steps=2", "logger.wandb.group=pair")


def test_runs_that_end_well(train, finished, unmeasured, tmp_path):
    """Two in one process, as other launchers run the jobs of a sweep."""
    run = finished
    assert wandb.run is None
    (path,) = files(run)
    found = records(path)
    assert_told(found, run)
    assert_numbers(found, run)
    told = begun(found)
    assert (told.project, told.display_name, told.run_group) == ("sempa_lightning", "one", "pair")
    assert exit_codes(found) == [0]
    summary = run.read_summary()
    rows = {row["metric"]: row for row in table(run, found, "changes")}
    assert rows["sts/demo/spearman"]["before"] == pytest.approx(summary["before/sts/demo/spearman"])
    assert rows["sts/demo/spearman"]["after"] == pytest.approx(summary["after/sts/demo/spearman"])
    assert rows["sts/demo/spearman"]["error"] == pytest.approx(summary["change_se/sts/demo/spearman"])
    samples = json.loads(run.evaluation("samples").read_text())
    sentence, (nearest, *_) = next(iter(samples["after"]["neighbours"].items()))
    row = table(run, found, "neighbours")[0]
    assert (row["sentence"], row["after"]) == (sentence, nearest[0])
    assert row["cosine after"] == pytest.approx(nearest[1])
    paraphrases = {row["sentence"]: row["before"] for row in table(run, found, "paraphrases")}
    assert paraphrases == samples["before"]["paraphrases"]
    ((picture,),) = (value for _, key, value in logged(found) if key == "pictures/before_after/filenames")
    (drawn,) = run.path.glob(f"wandb/offline-run-*/files/{picture}")
    assert drawn.read_bytes()[:4] == b"\x89PNG"

    trial = Trial(RunDir(tmp_path / "sweep" / "3"), ("seed=1", "loss.beta=0.2"), {"seed": "1", "loss.beta": "0.2"})
    trial.became("running")
    second = train(trial.run.path, *WORDS, "trainer.max_steps=2", *unmeasured, "seed=1")
    (path,) = files(second)
    found = records(path)
    assert (begun(found).display_name, begun(found).run_group) == ("seed=1,loss.beta=0.2", "sweep")
    assert_numbers(found, second)
    assert not [key for _, key, _ in logged(found) if key.startswith("tables/changes")]


def test_a_run_that_fails_and_goes_on(here, tiny_arguments, unmeasured, fail_at, tmp_path):
    """Steps 4 and 5 are done again, for the checkpoint is of step 4; W&B gets what it has not got before."""
    fail_at(5)
    done = here(*tiny_arguments, f"hydra.run.dir={tmp_path}", *WORDS, *unmeasured, "trainer.max_epochs=2")
    assert done.returncode == 1
    assert "error: cannot write /full: No space left on device" in done.stderr
    run = RunDir(tmp_path)
    (path,) = files(run)
    first = records(path)
    assert_told(first, run)
    assert exit_codes(first) == [1]
    assert max(step for step, _, _ in logged(first)) == 4

    fail_at(None)
    done = here(f"resume={tmp_path}")
    assert done.returncode == 0, done.stderr
    _, path = files(run)
    second = records(path)
    assert begun(second).run_id == begun(first).run_id
    assert exit_codes(second) == [0]
    assert_numbers([*first, *(record for record in second if not record.HasField("metric"))], run)


def test_a_start_that_came_to_nothing_is_another_run(here, tiny_arguments, unmeasured, fail_at, tmp_path):
    words = [*tiny_arguments, f"hydra.run.dir={tmp_path}", *WORDS, *unmeasured, "trainer.max_steps=2"]
    fail_at(1)
    assert here(*words).returncode == 1
    fail_at(None)
    assert here(*words).returncode == 0
    first, second = map(records, files(RunDir(tmp_path)))
    assert begun(first).run_id != begun(second).run_id
    assert_numbers(second, RunDir(tmp_path))


@pytest.mark.parametrize(
    ("variables", "netrc", "has_key"),
    [
        ({}, "", False),
        ({"WANDB_API_KEY": "0" * 40}, "", True),
        ({}, f"machine 127.0.0.1:9 login user password {'0' * 40}\n", True),  # what `wandb login` leaves
    ],
)
def test_a_run_that_cannot_be_online_is_offline(monkeypatch, capsys, tmp_path, variables, netrc, has_key):
    wandb.teardown()
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "1", "HOME": str(tmp_path)}
    for name, value in (nowhere | variables).items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".netrc").write_text(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    logger = RunLogger("project", "one", str(tmp_path), None, [])
    logger.log_metrics({"loss": 1.0}, step=0)
    wandb.finish()
    path = files(RunDir(tmp_path))[-1]
    assert [(row["trainer/global_step"], row["loss"]) for row in history(records(path))] == [(0, 1.0)]
    told = capsys.readouterr().err
    assert ": the run is logged offline" in told
    assert ("no API key (`wandb login`, or WANDB_API_KEY): " in told) != has_key
    assert not [path for path in tmp_path.glob("wandb/run-*") if path.is_dir()], "nothing of an attempt to be online"


def test_a_mode_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UserError, match="WANDB_MODE=onlin is none of online, offline and disabled"):
        RunLogger("project", "one", str(tmp_path), None, [])


def test_a_dashboard_shows_what_a_run_logs(finished):
    shown = panels(finished)
    found = records(*files(finished))
    keys = {key for _, key, _ in logged(found)} | {key.rpartition("/")[0] for _, key, _ in logged(found)}  # of media
    assert {key for panel in shown for key in panel.metrics} <= keys
    assert [panel for panel in shown if panel.kind in ("points", "lines")] == [
        Panel(
            "points", "embeddings against generation", ("after/generation/demo/perplexity", "after/sts/demo/spearman")
        ),
        Panel(
            "lines",
            "settings",
            ("train/best", "after/generation/demo/perplexity", "after/sts/demo/spearman"),
            ("optimizer.lr", "data.batch_size", "seed"),
        ),
    ]
    curves = {panel.title: panel.metrics for panel in shown if panel.kind == "curves"}
    assert curves == {
        "eval/sts/dev/spearman": ("eval/sts/dev/spearman",),
        "KL from the reference, perplexity": ("train/kl", "val/kl"),
        "reward margins": ("train/rewards/margins", "val/rewards/margins"),
        "reward accuracy": ("train/rewards/accuracies", "val/rewards/accuracies"),
        "loss": ("train/loss", "val/loss"),
    }
    assert [panel.metrics for panel in shown if panel.kind in ("table", "pictures")] == [
        ("tables/changes",), ("tables/neighbours",), ("tables/paraphrases",), ("pictures/before_after",)
    ]  # fmt: skip


def test_a_dashboard_of_a_trial_shows_what_was_chosen(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "0")
    chosen = {"loss.beta": "0.2", "loss": "ipo", "+trainer.deterministic": "true", "seed": "1"}
    Trial(RunDir(tmp_path / "0"), (), chosen).became("done")
    (settings,) = (panel.settings for panel in panels(RunDir(tmp_path / "0")) if panel.kind == "lines")
    assert settings == ("loss.beta", "seed")  # neither a file, nor what the config has not


@pytest.mark.filterwarnings("ignore")  # that package's own
def test_a_dashboard_is_a_workspace(finished):
    pytest.importorskip("wandb_workspaces")
    shown = panels(finished)
    built = workspace(shown, "someone", "project", "name")
    saved = json.dumps(built._to_model().model_dump(mode="json", by_alias=True))
    assert sum(len(section.panels) for section in built.sections) == len(shown)
    settings = {key.replace(".", ".value.", 1) for panel in shown for key in panel.settings}  # as W&B stores a config
    for key in settings | {key for panel in shown for key in panel.metrics}:
        assert key in saved


def test_a_dashboard_says_what_it_lacks(finished, monkeypatch, capsys, tmp_path):
    def error(*words):
        with pytest.raises(SystemExit):
            dashboard.main([str(word) for word in words])
        return capsys.readouterr().err

    assert error(tmp_path) == f"error: {tmp_path} is no run folder: it has no config.yaml\n"
    shutil.copy(finished.config, tmp_path)
    assert error(tmp_path) == f"error: {tmp_path} is no finished run with logger=wandb\n"
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    told = "error: a dashboard needs wandb-workspaces: pip install 'sempa-lightning[dashboard]'\n"
    assert error(finished.path, "--entity", "someone") == told


@pytest.fixture
def sweep(tiny_arguments, tmp_path):
    """Sweep over runs of two processes each, on the tiny scale, as from a shell that is part of another group."""

    def call(*words):
        variables = {"MASTER_PORT": "1", "RANK": "0", "WANDB_RUN_ID": "one"}
        command = [
            sys.executable, "-m", "sempa_lightning.train", "-m", *tiny_arguments, *TWO, "logger=wandb",
            "trainer.max_steps=2", "objective=preference", f"hydra.sweep.dir={tmp_path}/betas", *words,
        ]  # fmt: skip
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
        return SweepDir(tmp_path / "betas"), done

    return call


@pytest.mark.slow
def test_each_trial_of_several_processes_is_a_run(sweep):
    """A folder, a process group, a W&B run and a metric of its own."""
    folder, done = sweep("loss.beta=0.05,0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in folder.path.iterdir() if path.is_dir()} == {"0", "1"}
    ids, scores = set(), set()
    for trial, beta in zip(recorded_trials(folder), ("0.05", "0.5"), strict=True):
        assert trial.run.read_config()["objective"]["loss"]["beta"] == float(beta)
        assert "sweep" not in trial.run.read_config()
        (path,) = files(trial.run)
        found = records(path)
        assert (begun(found).display_name, begun(found).run_group) == (f"loss.beta={beta}", "betas")
        assert_told(found, trial.run)
        assert_numbers(found, trial.run)
        assert exit_codes(found) == [0]
        assert config_of(found)["loss"]["beta"] == float(beta)
        probes = [value for _, key, value in logged(found) if key == "eval/sts/dev/spearman"]
        assert trial.run.read_summary()["train/best"] == pytest.approx(max(probes), abs=1e-6)
        assert [step for step, key, _ in logged(found) if key == "train/loss"] == [0, 1]
        ids.add(begun(found).run_id)
        scores.add(next(value for step, key, value in logged(found) if (step, key) == (1, "train/grad_norm")))
    assert len(ids) == len(scores) == 2


@pytest.mark.slow
def test_a_trial_of_several_processes_that_fails(sweep):
    folder, done = sweep("optimizer.lr=1e36")
    assert done.returncode == 1
    (trial,) = recorded_trials(folder)
    assert (trial.state, trial.why[:26]) == ("failed", "the loss is not finite at ")
    (path,) = files(trial.run)
    assert exit_codes(records(path)) == [1]


@pytest.mark.parametrize(
    ("key", "value"),
    [("project", "a/b"), ("project", "x" * 200), ("tags", ["t" * 100]), ("tags", [""])],
)
def test_a_name_that_wandb_refuses_is_an_error_of_its_key(tmp_path, key, value):
    names = {"project": "p", "name": "n", "group": None, "tags": [], key: value}
    with pytest.raises(UserError, match=rf"^logger\.wandb\.{key}="):
        RunLogger(save_dir=str(tmp_path), **names)
