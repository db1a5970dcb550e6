"""The study's table and picture, from made-up run folders; its driver, from what is left to do."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.sweeps.trial import Trial

SCRIPTS = Path(__file__).parents[3] / "experiments" / "tradeoff"
STS = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sick")


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import table

    return table


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import run

    return run


def write_run(folder, arm, seed, sts, perplexity, *, base=(0.25, 100.0), rate=1e-3):
    """A run and its evaluation; the seven STS sets differ, and their average is `sts`."""
    place = folder / "train" / arm / str(seed)
    place.mkdir(parents=True)
    config = {"run_name": arm, "seed": seed, "monitor": "eval/sts/dev/spearman", "optimizer": {"lr": rate}}
    (place / "config.yaml").write_text(yaml.safe_dump(config | {"data": {"batch_size": 32}}))
    steps = [{"step": step, "perf/anchors_per_s": speed} for step, speed in ((0, 16), (1, 32), (2, 64), (3, 64))]
    probes = [{"step": step, "eval/sts/dev/spearman": value} for step, value in ((1, 0.5), (2, 0.625), (3, 0.5625))]
    lines = [*steps, *probes, {"step": 4, "after/sts/dev/spearman": 1.0}]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = folder / "evaluate" / arm / str(seed)
    for subject, (similarity, surprise) in {"before": base, "after": (sts, perplexity)}.items():
        spread = dict(zip(STS, (-0.06, -0.04, -0.02, 0.0, 0.02, 0.04, 0.06), strict=True))
        results = {f"sts/{task}": {"spearman": similarity + shift, "pearson": 0.9} for task, shift in spread.items()}
        results |= {"sts/demo": {"spearman": 0.9}, "clustering/banking77": {"v_measure": 0.3}}
        results |= {"generation_full/wikitext2": {"perplexity": surprise, "kl": 0.0, "next_token_accuracy": 0.2}}
        for task, metrics in results.items():
            path = evaluation / "results" / subject / f"{task}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"metrics": metrics}))
    (evaluation / "config.yaml").write_text(yaml.safe_dump({"run": str(place.resolve())}))


@pytest.fixture
def study(tmp_path):
    """Three seeds of `kept` (mean 40, 110), one each of `worse` and of `lost`."""
    for seed, (sts, perplexity) in enumerate([(0.3, 100.0), (0.4, 110.0), (0.5, 120.0)]):
        write_run(tmp_path, "kept", seed, sts, perplexity)
    write_run(tmp_path, "lost", 0, 0.6, 400.0)
    write_run(tmp_path, "worse", 0, 0.35, 120.0)
    return tmp_path


def test_rows_hold_each_seed_s_numbers(table, study):
    rows = table.read_results(study, ["run_name"])
    assert list(rows) == ["base", "kept", "lost", "worse"]
    assert list(rows["kept"]) == ["0", "1", "2"]
    assert rows["base"][""] == {"sts": pytest.approx(0.25), "clustering": 0.3, "perplexity": 100.0, "kl": 0.0}
    assert rows["kept"]["1"] == {
        "sts": pytest.approx(0.4),
        "clustering": 0.3,
        "perplexity": 110.0,
        "kl": 0.0,
        "seconds": 2 + 1 + 0.5 + 0.5,
        "best_step": 3,
        "last_less_best": -0.0625,
    }


def test_the_table_shows_mean_and_sd_and_the_front_in_bold(table, study):
    """The sample sd of 30, 40, 50 is 10. `worse` has less STS than `kept` at a higher perplexity."""
    header, _, *lines = table.markdown(table.read_results(study, ["run_name"]), ["run_name"]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in [header, *lines]]
    shown = [dict(zip(cells[0], line, strict=True)) for line in cells[1:]]
    assert [line["run_name"] for line in shown] == ["**base**", "**kept**", "**lost**", "worse"]
    assert [line["STS-7 ↑"] for line in shown] == ["25.00", "40.00 ± 10.00", "60.00", "35.00"]
    assert [line["perplexity ↓"] for line in shown] == ["100.0", "110.0 ± 10.0", "400.0", "120.0"]
    assert shown[1]["last − best dev"] == "−6.25 ± 0.00"
    assert shown[1]["best step"] == "3 ± 0"
    assert [line["clustering ↑"] for line in shown] == ["30.00", "30.00 ± 0.00", "30.00", "30.00"]
    assert [line["uniformity ↓"] for line in shown] == ["–"] * 4  # it was not measured


def test_rows_by_other_keys_of_the_config(table, tmp_path):
    for rate in (1e-3, 3e-3):
        for seed in (0, 1):
            write_run(tmp_path, f"rate{rate}", seed, 0.4, 110.0, rate=rate)
    rows = table.read_results(tmp_path, ["optimizer.lr", "data.batch_size"])
    assert {name: list(seeds) for name, seeds in rows.items()} == {
        "base": [""],
        "0.001, 32": ["0", "1"],
        "0.003, 32": ["0", "1"],
    }
    with pytest.raises(UserError, match=r"told apart by loss\.beta"):
        table.read_results(tmp_path, ["loss.beta"])
    with pytest.raises(UserError, match="is the second run of 32 with seed 0"):
        table.read_results(tmp_path, ["data.batch_size"])


def test_the_points_are_multiples_of_the_base_s_perplexity(table, study):
    points = table.points(table.read_results(study, ["run_name"]))
    assert points["base"] == [(1.0, pytest.approx(25.0))]
    assert points["kept"] == [
        (1.0, pytest.approx(30.0)),
        (pytest.approx(1.1), pytest.approx(40.0)),
        (pytest.approx(1.2), pytest.approx(50.0)),
    ]


def test_the_command_writes_three_files(table, study, monkeypatch):
    monkeypatch.setattr("sys.argv", ["table.py", str(study), "--out", str(study / "out")])
    table.main()
    assert json.loads((study / "out" / "results.json").read_text())["lost"]["0"]["perplexity"] == 400.0
    assert (study / "out" / "table.md").read_text().count("\n") == 6
    assert (study / "out" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")


def test_the_driver_does_what_is_left(run, tmp_path):
    words = Namespace(train=["model=tiny_random"], evaluate=["limit=4"])
    train, evaluate = run.commands(tmp_path, "joint/1", words)
    folder = tmp_path / "train" / "joint" / "1"
    assert train == ["train", "experiment=tradeoff/joint", "seed=1", f"hydra.run.dir={folder}", "model=tiny_random"]
    place = f"hydra.run.dir={tmp_path}/evaluate/joint/1"
    assert evaluate[:4] == ["evaluate", f"run={folder}", "subjects=[after]", place]
    assert evaluate[-1] == "limit=4"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    assert run.commands(tmp_path, "joint/1", words) == [["train", f"resume={folder}"], evaluate]
    (folder / "summary.json").touch()
    assert run.commands(tmp_path, "joint/1", words) == [evaluate]
    results = tmp_path / "evaluate" / "joint" / "1" / "results" / "after" / "sts" / "stsb.json"
    results.parent.mkdir(parents=True)
    results.write_text('{"failed": "out of memory"}')
    (tmp_path / "evaluate" / "joint" / "1" / "summary.json").touch()
    assert run.commands(tmp_path, "joint/1", words) == [evaluate]
    results.write_text('{"metrics": {"spearman": 0.5}}')
    assert run.commands(tmp_path, "joint/1", words) == []


def test_the_driver_measures_the_base_once(run, tmp_path):
    (evaluate,) = run.commands(tmp_path, "base", Namespace(train=[], evaluate=[]))
    assert evaluate[:3] == ["evaluate", "model=nano", f"hydra.run.dir={tmp_path}/evaluate/base"]


def test_a_study_without_its_base_is_refused(table, study):
    for folder in study.glob("evaluate/*/*/results/before"):
        folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(UserError, match="has measured what the runs began with"):
        table.read_results(study, ["run_name"])


def test_the_driver_knows_the_arms(run):
    assert set(run.ARMS) == {
        *("sft", "sempa_k2", "sempa_mined", "sempa_inbatch", "sempa_nll", "sempa_kl"),
        *("sempa_beta", "sempa_beta_budget", "sempa_mined_beta"),
        *("contrastive", "contrastive_kl", "sempa_contrastive", "joint"),
    }


@pytest.fixture
def curves(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import curves

    return curves


def write_probes(folder, beta, seed, probes):
    """A run whose probes saw (dev STS, KL) after every two steps, and training steps between them."""
    place = folder / f"{beta}_{seed}"
    place.mkdir()
    config = {"seed": seed, "monitor": "eval/sts/dev/spearman", "loss": {"beta": beta}}
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    lines = []
    for number, (score, kl) in enumerate(probes):
        lines.append({"step": 2 * number + 1, "train/loss": 0.5})
        seen = {"eval/sts/dev/spearman": score, "eval/generation/dev/kl": kl}
        lines.append({"step": 2 * number + 1, **seen})
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_row_of_curves_is_the_mean_of_its_seeds(curves, tmp_path):
    write_probes(tmp_path, 0.1, 0, [(0.25, 0.05), (0.5, 0.25), (0.375, 0.5)])
    write_probes(tmp_path, 0.1, 1, [(0.375, 0.1), (0.25, 0.25), (0.3125, 0.75)])
    write_probes(tmp_path, 1.0, 0, [(0.5, 0.25)])
    rows = curves.read_curves(tmp_path, ["loss.beta"], budget=0.1)
    assert rows["0.1"]["0"] == {
        "best": 0.5,
        "best_step": 4,
        "best_kl": 0.25,
        "last": 0.375,
        "last_less_best": -0.125,
        "last_kl": 0.5,
        "within": 0.25,
    }
    assert rows["0.1"]["1"]["within"] == 0.375  # a KL of the budget itself is kept
    assert curves.markdown(rows, ["loss.beta"]).splitlines()[2:] == [
        "| 0.1 | 43.8 ± 8.8 | 3 ± 1 | 0.17 ± 0.11 | 34.4 ± 4.4 | −9.4 ± 4.4 | 0.62 ± 0.18 | 31.2 ± 8.8 |",
        "| 1.0 | 50.0 | 2 | 0.25 | 50.0 | 0.0 | 0.25 | – |",
    ]
    with pytest.raises(UserError, match=r"1\.0_0 is the second run of eval"):
        curves.read_curves(tmp_path, ["monitor"], budget=0.1)


def test_a_group_of_the_config_is_called_as_the_sweep_chose_it(curves, tmp_path):
    for number, name in enumerate(("generate", "rewrite")):
        write_probes(tmp_path, 0.1, number, [(0.25, 0.05)])
        run = RunDir((tmp_path / f"0.1_{number}").rename(tmp_path / str(number)))
        Trial(run, (), {"prompt": name}).became("done")
    assert list(curves.read_curves(tmp_path, ["prompt"], budget=0.1)) == ["generate", "rewrite"]
    assert list(curves.read_curves(tmp_path, ["prompt", "loss.beta"], budget=0.1)) == ["generate, 0.1", "rewrite, 0.1"]


def test_runs_without_probes_of_both_sides_are_named(curves, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        curves.read_curves(tmp_path, ["loss.beta"], budget=0.1)
    write_probes(tmp_path, 0.1, 0, [])
    with pytest.raises(UserError, match=r"0\.1_0 has no probe of eval/sts/dev/spearman and .* callbacks=kl_budget"):
        curves.read_curves(tmp_path, ["loss.beta"], budget=0.1)
