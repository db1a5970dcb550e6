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


def test_an_error_is_one_line(tmp_path):
    done = call(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} holds no evaluation")
    assert done.stderr.count("\n") == 1
