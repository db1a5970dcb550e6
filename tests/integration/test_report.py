"""`python -m sempa_lightning.report` in a process of its own."""

import json
import subprocess
import sys


def call(*words):
    command = [sys.executable, "-m", "sempa_lightning.report", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def evaluation(folder, value):
    (folder / "results/before/sts").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {path: org/some}\n")
    (folder / "results/before/sts/stsb.json").write_text(json.dumps({"metrics": {"spearman": value}}))


def test_folders_of_a_sweep_become_one_report(tmp_path):
    evaluation(tmp_path / "sweep/0", 0.5)
    evaluation(tmp_path / "sweep/1", 0.6)
    done = call(tmp_path / "sweep", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/out/report.html\n"
    table = json.loads((tmp_path / "out/report.json").read_text())["tables"][0]
    assert [line["row"] for line in table["lines"]] == ["0", "1"]


def test_runs_and_evaluations_share_a_page(tmp_path):
    evaluation(tmp_path / "evaluation", 0.5)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 0\ntrainer:\n  max_steps: 6\n")
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n{"step": 2, "tr')
    done = call(tmp_path / "run", tmp_path / "evaluation", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "out/report.json").read_text())
    assert found["title"].startswith("Run run; some: ")
    tables = {table["key"]: table for table in found["tables"]}
    assert [cell["text"] for cell in tables["runs"]["lines"][0]["cells"]][:2] == ["unfinished", "2 of 6"]
    assert tables["sts"]["lines"][0]["cells"][0]["text"] == "50.00"


def test_an_error_is_one_line(tmp_path):
    done = call(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} holds no evaluation")
    assert done.stderr.count("\n") == 1
