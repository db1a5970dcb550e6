"""`python -m sempa_lightning.report`."""

import json
import subprocess
import sys

from sempa_lightning.report import main


def evaluation(folder, value):
    (folder / "results/before/sts").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {path: org/some}\n")
    (folder / "results/before/sts/stsb.json").write_text(json.dumps({"metrics": {"spearman": value}}))


def test_folders_of_a_sweep_become_one_report(tmp_path, capsys):
    evaluation(tmp_path / "sweep/0", 0.5)
    evaluation(tmp_path / "sweep/1", 0.6)
    main([f"{tmp_path}/sweep", "--out", f"{tmp_path}/out"])
    assert capsys.readouterr() == (f"{tmp_path}/out/report.html\n", "")
    table = json.loads((tmp_path / "out/report.json").read_text())["tables"][0]
    assert [line["row"] for line in table["lines"]] == ["0", "1"]


def test_runs_and_evaluations_share_a_page(tmp_path):
    evaluation(tmp_path / "evaluation", 0.5)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 0\ntrainer:\n  max_steps: 6\n")
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n{"step": 2, "tr')
    main([f"{tmp_path}/run", f"{tmp_path}/evaluation", "--out", f"{tmp_path}/out"])
    found = json.loads((tmp_path / "out/report.json").read_text())
    assert found["title"].startswith("Run run; some: ")
    tables = {table["key"]: table for table in found["tables"]}
    assert [cell["text"] for cell in tables["runs"]["lines"][0]["cells"]][:2] == ["unfinished", "2 of 6"]
    assert tables["sts"]["lines"][0]["cells"][0]["text"] == "50.00"


def test_an_error_is_one_line(tmp_path):
    call = [sys.executable, "-m", "sempa_lightning.report", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} holds no evaluation")
    assert done.stderr.count("\n") == 1
