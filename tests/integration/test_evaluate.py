"""The evaluate command: what it measures, what it leaves, and what it survives."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from sempa_lightning import evaluate
from sempa_lightning.artifacts import EvaluationDir, RunDir
from sempa_lightning.assets import local_path
from sempa_lightning.models.reading import Reading

CONF = Path(evaluate.__file__).parents[2] / "conf"
DEMO = local_path("pkg://sempa_lightning/assets/demo")

# Tasks that tests bring along; processes of their own import them, too.
TASKS = '''
import os, signal
import torch
from sempa_lightning.evaluation.task import Measurement

class Odd:
    missing = None

    def metrics(self, items):
        return {"value": float(items["value"].mean())}

class Broken(Odd):
    """Fails while the file is there."""

    def __init__(self, file):
        self.file = file

    def run(self, subject, progress):
        if os.path.exists(self.file):
            raise ZeroDivisionError("no such luck\\nmore of it")
        return Measurement({"value": torch.ones(3)})

class Deadly(Odd):
    """Kills its process as often as the number in the file says."""

    def __init__(self, file):
        self.file = file

    def run(self, subject, progress):
        with open(self.file) as file:
            lives = int(file.read())
        if lives:
            with open(self.file, "w") as file:
                file.write(str(lives - 1))
            os.kill(os.getpid(), signal.Signals[os.environ["DEADLY"]])
        return Measurement({"value": torch.full((3,), 2.0)}, {"rank": os.environ.get("RANK")})
'''


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Command-line words that shrink the demonstration suites, and leave out what needs real data."""
    folder = tmp_path_factory.mktemp("small")
    for name, source, number in (("pairs", "sts_test", 24), ("rows", "test", 6)):
        lines = (DEMO / f"{source}.jsonl").read_text().splitlines()[:number]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    members = OmegaConf.load(CONF / "eval" / "sts.yaml").sts
    return {
        "sts": [
            f"eval.sts.demo.pairs.path={folder}/pairs.jsonl",
            *(f"~eval.sts.{name}" for name in members if name != "demo"),
        ],
        "preference": [f"eval.preference.demo.rows.table.path={folder}/rows.jsonl"],
        "generation": ["eval.generation.demo.max_texts=2"],
    }


@pytest.fixture
def measure(evaluate_here, small, tmp_path):
    """Measure suites into a folder, in this process."""

    def call(folder, *words, suites=("sts", "preference", "generation"), code=0):
        shrunk = [word for suite in suites for word in small[suite]]
        choice = f"eval=[{','.join(suites)}]"
        paths = [f"paths.data_dir={tmp_path}/none", f"paths.cache_dir={tmp_path}/cache"]
        done = evaluate_here(choice, *shrunk, f"hydra.run.dir={folder}", *paths, *words)
        assert done.returncode == code, done.stdout + done.stderr
        return EvaluationDir(folder), done

    return call


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Makes a suite `odd` of one of the tasks above; returns its words and the file that rules it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd_tasks.py").write_text(TASKS)
    sys.modules.pop("odd_tasks", None)

    def make(name, content):
        file = tmp_path / name
        file.write_text(str(content))
        return f"+eval.odd.{name.lower()}={{_target_: odd_tasks.{name}, file: {file}}}", file

    return make


@pytest.fixture(scope="module")
def pairs(small):
    return small["sts"][0].partition("=")[2]


def spearman_of(model, pairs):
    from scipy.stats import spearmanr

    rows = [json.loads(line) for line in Path(pairs).read_text().splitlines()]
    first, second = (model.encode([row[name] for row in rows]) for name in ("sentence1", "sentence2"))
    return spearmanr(torch.cosine_similarity(first, second), [row["score"] for row in rows]).statistic


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("full", [False, True])
def test_a_run_is_measured_before_and_after(measure, write_run, pairs, tmp_path, full):
    from sempa_lightning.notebook import load

    pooling = {"_target_": "sempa_lightning.pooling.mean.mean", "_partial_": True}
    run = write_run(full=full, readout={"pooling": pooling})
    readout = OmegaConf.to_container(OmegaConf.load(run.config))["readout"]
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    folder, done = measure(tmp_path / "out", f"run={run.path}")
    summary = folder.read_summary()
    trained = load(run.path, device="cpu")
    untrained = load(tmp_path / "base", device="cpu")
    untrained = type(untrained)(untrained.policy, untrained.tokenizer, trained.readout, trained.prompt)
    for stage, model in (("before", untrained), ("after", trained)):
        assert summary[f"{stage}/sts/demo/spearman"] == pytest.approx(spearman_of(model, pairs), abs=1e-6)
    assert summary["before/sts/demo/spearman"] != summary["after/sts/demo/spearman"]
    assert summary["before/generation/demo/kl"] == 0 < summary["after/generation/demo/kl"]
    names = {key.partition("/")[2] for key in summary}
    assert set(summary) == {f"{stage}/{name}" for stage in ("before", "after", "change_se") for name in names}

    result = folder.read_result("after/sts/demo")
    assert result["metrics"].items() <= {key.rpartition("/")[2]: value for key, value in summary.items()
                                         if key.startswith("after/sts/demo/")}.items()  # fmt: skip
    assert result["seconds"] > 0
    assert "notes" in result
    assert set(load_file(folder.items("after/sts/demo"))) >= {"cosine", "gold"}
    assert folder.read_config()["readout"] == readout
    assert folder.read_config()["run"] == str(run.path)
    assert folder.read_manifest()["command"].startswith("python")
    assert {path.suffix for path in folder.path.glob("report.*")} >= {".html", ".md", ".csv", ".json"}
    assert not folder.claims.exists()
    assert "Base and trained" in done.stdout
    assert max(map(len, done.stdout.splitlines()[3:-1])) <= 80
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_what_was_trained_is_measured_alone(measure, write_run, tmp_path):
    run = write_run()
    both, _ = measure(tmp_path / "both", f"run={run.path}", suites=["generation"])
    alone, done = measure(tmp_path / "alone", f"run={run.path}", "subjects=[after]", suites=["generation"])
    expected = {key: value for key, value in both.read_summary().items() if key.startswith("after/")}
    assert alone.read_summary() == expected
    assert "kl" in done.stdout
    _, refused = measure(tmp_path / "none", f"run={run.path}", "subjects=[later]", suites=["generation"], code=1)
    assert "subjects=['later']: name some of before, after" in refused.stderr


def test_the_command_line_wins_over_the_run_s_readout(measure, write_run, pairs, tmp_path):
    pooling = {"_target_": "sempa_lightning.pooling.mean.mean", "_partial_": True}
    run = write_run(readout={"pooling": pooling})
    saved = OmegaConf.load(run.config).readout
    layer, _ = measure(tmp_path / "layer", f"run={run.path}", "readout.layer=-2", suites=["generation"])
    assert layer.read_config()["readout"] == {**OmegaConf.to_container(saved), "layer": -2}
    whole, _ = measure(tmp_path / "whole", f"run={run.path}", "readout=prompt_eol", suites=["generation"])
    readout = whole.read_config()["readout"]
    assert readout["pooling"]["_target_"] == "sempa_lightning.pooling.last_token.last_token"
    assert whole.read_config()["prompt"] == OmegaConf.to_container(OmegaConf.load(run.config).prompt)


@pytest.mark.parametrize(("words", "expected"), [([], 9), (["limit=5"], 5), (["limit=null"], None)])
def test_a_limit_reaches_the_tasks_that_have_one(words, expected):
    from hydra import compose, initialize_config_dir

    tasks = "+eval.some={one: {_target_: a.Task, limit: 9}, other: {_target_: a.Task}}"
    words = ["model=nano", "eval=[]", "paths.run_dir=x", tasks, *words]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = evaluate.composed(compose("evaluate", words), words)
    assert cfg.eval.some == {"one": {"_target_": "a.Task", "limit": expected}, "other": {"_target_": "a.Task"}}
    assert not {"objective", "optimizer"} & set(cfg)


def test_a_bare_model_is_measured_as_it_is(measure, tiny_base, pairs, tmp_path):
    from sempa_lightning.notebook import load

    folder, done = measure(tmp_path / "out", f"model.path={tiny_base}")
    summary = folder.read_summary()
    assert {key.partition("/")[0] for key in summary} == {"before"}
    assert summary["before/sts/demo/spearman"] == pytest.approx(
        spearman_of(load(tiny_base, device="cpu"), pairs), abs=1e-6
    )
    assert summary["before/generation/demo/kl"] == 0
    assert "│ sts/demo/spearman" in done.stdout
    assert done.stderr == ""


def test_it_resumes_where_it_stopped(measure, evaluate_here, tiny_base, tmp_path):
    folder, _ = measure(tmp_path / "out", f"model.path={tiny_base}")
    before, summary = files(folder), folder.summary.read_text()
    folder.result("before/preference/demo").unlink()
    folder.summary.unlink()
    again, _ = measure(tmp_path / "out", f"model.path={tiny_base}")
    kept = {path for path in before if path.parts[-4] in ("results", "items") and "preference" not in path.parts}
    assert len(kept) == 4
    assert {path: files(again)[path] for path in kept} == {path: before[path] for path in kept}
    assert folder.summary.read_text() == summary

    folder.result("before/preference/demo").unlink()
    done = evaluate_here(f"resume={folder.path}", "processes=1")
    assert done.returncode == 0, done.stderr
    assert folder.summary.read_text() == summary
    _, done = measure(tmp_path / "out", f"model.path={tiny_base}", "readout.layer=-2", code=1)
    assert done.stderr.startswith(f"error: {folder.path} holds something else already, with another readout: ")


def test_a_signal_ends_it_with_a_line(measure, evaluate_here, small, tiny_base, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Reading, "read", lambda *_: signal.raise_signal(signal.SIGTERM))
        folder, done = measure(tmp_path / "out", f"model.path={tiny_base}", code=75)
        assert done.stdout.endswith(f"stopped: resume={folder.path} goes on\n")
        assert done.stderr == ""
        paths = [f"paths.{name}={tmp_path}/{name}" for name in ("data_dir", "cache_dir")]
        words = ["-m", "eval=[sts]", *small["sts"], f"model.path={tiny_base}", "readout=mean,sum", *paths]
        done = evaluate_here(*words, f"hydra.sweep.dir={tmp_path}/sweep")
        assert done.returncode == 75
        told = f"stopped: the same command with hydra.sweep.dir={tmp_path}/sweep goes on\n"
        assert done.stdout.count("stopped: ") == done.stdout.count(told) == 1
    done = evaluate_here(*words, f"hydra.sweep.dir={tmp_path}/sweep")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sweep" / "sweep.csv").read_text().count("\n") == 3
    done = evaluate_here(f"resume={folder.path}")
    assert done.returncode == 0, done.stderr
    assert folder.summary.is_file()


def test_a_task_that_fails_is_told_and_tried_again(measure, odd, tiny_base, tmp_path):
    word, file = odd("Broken", "")
    folder, done = measure(tmp_path / "out", f"model.path={tiny_base}", word, suites=["generation"], code=3)
    assert folder.read_result("before/odd/broken")["failed"] == "ZeroDivisionError: no such luck"
    log = folder.log("before/odd/broken")
    assert f"before/odd/broken failed: ZeroDivisionError: no such luck; see {log}" in done.stdout
    assert "in run" in log.read_text()
    assert "Traceback" not in done.stdout + done.stderr
    assert "before/generation/demo/perplexity" in folder.read_summary()
    assert not any("odd" in key for key in folder.read_summary())

    file.unlink()
    folder, _ = measure(tmp_path / "out", f"model.path={tiny_base}", word, suites=["generation"])
    assert folder.read_summary()["before/odd/broken/value"] == 1
    assert not log.exists()


def test_a_suite_without_data_is_left_out_by_name(measure, tiny_base, tmp_path):
    words = [f"model.path={tiny_base}", f"eval.sts.demo.pairs.path={tmp_path}/gone.jsonl"]
    folder, done = measure(tmp_path / "out", *words, suites=["sts", "generation"], code=4)
    assert f"sts/demo is left out: no file {tmp_path}/gone.jsonl" in done.stdout
    assert folder.read_manifest()["skipped"] == {"sts/demo": f"no file {tmp_path}/gone.jsonl"}
    assert "before/generation/demo/perplexity" in folder.read_summary()
    assert list(folder.read_results()) == ["before/generation/demo"]


def test_two_processes_do_what_one_does(measure, write_run, tmp_path):
    run = write_run()
    one, _ = measure(tmp_path / "one", f"run={run.path}")
    two, done = measure(tmp_path / "two", f"run={run.path}", "processes=2")
    assert two.read_summary() == one.read_summary()
    assert two.read_results().keys() == one.read_results().keys()
    assert all(f"{place} done" in done.stdout for place in one.read_results())
    assert all(two.log(f"process-{rank}").is_file() for rank in (1, 2))
    assert not two.claims.exists()


@pytest.mark.parametrize(("number", "times"), [(signal.SIGKILL, 1), (signal.SIGTERM, 2)])
def test_what_a_process_dies_at_is_taken_by_another(measure, odd, tiny_base, tmp_path, monkeypatch, number, times):
    """A process that is told to end has not died at its task, however often that happens."""
    monkeypatch.setenv("DEADLY", number.name)
    word, lives = odd("Deadly", times)
    folder, done = measure(tmp_path / "out", f"model.path={tiny_base}", word, "processes=2", suites=["generation"])
    assert lives.read_text() == "0"
    assert folder.read_summary()["before/odd/deadly/value"] == 2
    assert "before/generation/demo/perplexity" in folder.read_summary()
    assert done.stdout.count(f"died of signal {number}") == times


def test_what_two_processes_died_at_has_failed(measure, odd, tiny_base, tmp_path):
    """The claim's file counts them; a later start begins anew."""
    word, _ = odd("Deadly", 0)
    claim = EvaluationDir(tmp_path / "out").claims / "before" / "odd" / "deadly"
    claim.parent.mkdir(parents=True)
    claim.write_text("2")
    words = [f"model.path={tiny_base}", word]
    folder, _ = measure(tmp_path / "out", *words, suites=["generation"], code=3)
    assert folder.read_result("before/odd/deadly")["failed"].startswith("2 processes died at it")
    assert "before/generation/demo/perplexity" in folder.read_summary()
    folder, _ = measure(tmp_path / "out", *words, suites=["generation"])
    assert folder.read_summary()["before/odd/deadly/value"] == 2


def test_a_process_that_works_elsewhere_on_the_folder_takes_its_share(measure, odd, tiny_base, small, tmp_path):
    """As torchrun and SLURM start them: the same command with another rank; the first one waits for what it has."""
    word, _ = odd("Deadly", 0)
    folder = tmp_path / "out"
    words = ["eval=[generation]", *small["generation"], word, f"model.path={tiny_base}", f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "sempa_lightning.evaluate", *words, f"paths.data_dir={tmp_path}/none"]
    with subprocess.Popen(command, env={**os.environ, "RANK": "1"}, stdout=subprocess.PIPE, text=True) as process:
        measure(folder, f"model.path={tiny_base}", word, suites=["generation"])
        assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 0


def test_a_sweep_ends_with_one_table(evaluate_here, small, tiny_base, tmp_path):
    words = ["eval=[sts]", *small["sts"], f"model.path={tiny_base}", f"hydra.sweep.dir={tmp_path}/sweep"]
    done = evaluate_here("-m", *words, "readout=prompt_eol,mean", f"paths.data_dir={tmp_path}/none")
    assert done.returncode == 0, done.stdout + done.stderr
    folders = [EvaluationDir(tmp_path / "sweep" / number) for number in "01"]
    scores = [folder.read_summary()["before/sts/demo/spearman"] for folder in folders]
    assert scores[0] != scores[1]
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["evaluation"] for row in rows] == ["0 readout=prompt_eol", "1 readout=mean"]
    assert [float(row["before/sts/demo/spearman"]) for row in rows] == scores
    assert done.stdout.count("The sweep") == 1
    assert f"{scores[1]:.4g}" in done.stdout.partition("The sweep")[2]


def test_a_sweep_over_layers_reads_each_text_once(evaluate_here, small, tiny_base, pairs, tmp_path, monkeypatch):
    read = Counter()

    def counted(self, sentences, original=Reading.read):
        read.update(sentences)
        original(self, sentences)

    monkeypatch.setattr(Reading, "read", counted)
    words = ["eval=[sts]", *small["sts"], f"model.path={tiny_base}", f"hydra.sweep.dir={tmp_path}/sweep"]
    paths = [f"paths.data_dir={tmp_path}/none", f"paths.cache_dir={tmp_path}/cache"]
    done = evaluate_here("-m", *words, *paths, "readout.layer=-1,-2", "keep_layers=[-1,-2]")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in Path(pairs).read_text().splitlines()]
    assert read == Counter({row[name] for row in rows for name in ("sentence1", "sentence2")})
    folders = [EvaluationDir(tmp_path / "sweep" / number) for number in "01"]
    assert len({folder.read_summary()["before/sts/demo/spearman"] for folder in folders}) == 2


def test_an_evaluation_that_cannot_start_does_not_end_a_sweep(evaluate_here, small, tiny_base, tmp_path):
    words = ["eval=[generation]", *small["generation"], f"hydra.sweep.dir={tmp_path}/sweep"]
    done = evaluate_here("-m", *words, f"model.path=/no/such/folder,{tiny_base}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no folder /no/such/folder")
    assert EvaluationDir(tmp_path / "sweep" / "1").read_summary()


def test_a_run_is_followed_while_it_trains(measure, train, all_checkpoints, tmp_path):
    """The checkpoints of a real training come one after the other; the run ends when its summary is there."""
    run = train(tmp_path / "run", "objective=preference", "optimizer.lr=1e-2", *all_checkpoints)
    for path in run.resumable_checkpoints:
        path.unlink()
    kept = {step: run.checkpoints / f"step={step}.ckpt" for step in (2, 4, 6)}
    summary = run.summary.rename(tmp_path / "summary.json")
    folder = EvaluationDir(tmp_path / "out")

    def go_on():
        for step, path in kept.items():
            path.replace(run.last_checkpoint)
            end = time.monotonic() + 60
            while time.monotonic() < end and f'"step": {step},' not in _text(folder.followed):
                time.sleep(0.05)
        summary.rename(run.summary)

    writer = threading.Thread(target=go_on)
    writer.start()
    words = [f"run={run.path}", "follow=true", "poll_seconds=0.05"]
    measure(folder.path, *words, suites=["sts"])
    writer.join()
    lines = [json.loads(line) for line in folder.followed.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    scores = [line["eval/sts/demo/spearman"] for line in lines]
    assert len(set(scores)) == 3

    last, _ = measure(tmp_path / "last", f"run={run.path}", "checkpoint=last.ckpt", suites=["sts"])
    assert last.read_summary()["after/sts/demo/spearman"] == pytest.approx(scores[-1], abs=1e-7)
    best = folder.read_summary()["after/sts/demo/spearman"]
    assert min(abs(best - score) for score in scores) < 1e-7


def test_a_training_that_died_is_not_followed_for_ever(measure, train, tmp_path):
    run = train(tmp_path / "run", "objective=preference")
    run.summary.unlink()
    words = [f"run={run.path}", "follow=true", "poll_seconds=0.05", "patience_seconds=0.3"]
    _, done = measure(tmp_path / "out", *words, suites=["generation"], code=1)
    assert done.stderr.startswith(f"error: {run.path} has written no checkpoint for 0.3 seconds: ")


def _text(path):
    return path.read_text() if path.is_file() else ""


def one_line(done):
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("error: ")


def test_bad_input_is_told_in_one_line(measure, write_run, tiny_base, tmp_path):
    def told(*words):
        _, done = measure(tmp_path / "out", *words, suites=["generation"], code=1)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return one_line(done)

    run = write_run()
    assert told().startswith("measure what? run=<run folder>, model=<option> or model.path=")
    assert told(f"run={tmp_path}").startswith(f"{tmp_path} is no run folder")
    assert "is of another model than this one: " in told(f"run={run.path}", f"model.path={tiny_base}")
    settings = run.adapter / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": "some/other"}))
    message = f"{run.adapter} was trained on some/other, and the model is {tmp_path}/base: give the former"
    assert told(f"run={run.path}").startswith(message)
    assert told(f"run={run.path}", "checkpoint=nine.ckpt").startswith(f"no checkpoint {run.checkpoints}/nine.ckpt")
    assert told(f"model.path={tiny_base}", "follow=true").startswith("follow=true goes with a run")
    assert "Could not load 'eval/nonsense'" in told(f"model.path={tiny_base}", "eval=[nonsense]")
    shutil.rmtree(run.adapter)
    assert told(f"run={run.path}").startswith(f"{run.path} has no adapter/ and no model/ yet")
    assert RunDir(run.path).config.is_file()
