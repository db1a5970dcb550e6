import yaml

from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.folder import read_evaluations
from sempa_lightning.evaluation.report.rows import make_rows, seeds


def sts(value):
    return {"metrics": {"spearman": value}}


def trained_with(write, folder, seed, loss, after):
    """An evaluation of a run of its own."""
    run = folder / f"run_{loss}_{seed}"
    run.mkdir()
    config = {
        "seed": seed,
        "loss": {"_target_": f"losses.{loss}"},
        "paths": {"run_dir": str(run)},
        "data": {"seed": seed},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    results = {"before/sts/stsb": sts(0.5), "after/sts/stsb": sts(after)}
    return write(folder / f"{loss}_{seed}", results, config={"run": str(run), "seed": 0})


def test_seeds_are_one_row_with_mean_and_standard_deviation(tmp_path, write):
    folders = [trained_with(write, tmp_path, seed, "dpo", after) for seed, after in enumerate((0.60, 0.62, 0.67))]
    folders.append(trained_with(write, tmp_path, 0, "ipo", 0.7))
    comparison = Comparison(make_rows(read_evaluations(folders)))
    assert [row.label for row in comparison.rows] == ["before", "after · dpo (3 seeds)", "after · ipo"]
    row = comparison.rows[1]
    assert seeds(row) == ["0", "1", "2"]
    value = comparison.value(row, [("sts/stsb", "spearman")])
    assert (round(value.mean, 6), round(value.sd, 6)) == (0.63, 0.036056)
    change = comparison.change(row, [("sts/stsb", "spearman")])
    # Student's t for two degrees of freedom: 4.302653 · 0.036056 / √3 = 0.089568
    assert (round(change.low, 4), round(change.high, 4)) == (0.0404, 0.2196)


def test_a_base_that_two_runs_share_is_one_row_and_another_base_is_not(tmp_path, write):
    first = trained_with(write, tmp_path, 0, "dpo", 0.6)
    other = write(
        tmp_path / "other",
        {"before/sts/stsb": sts(0.3), "after/sts/stsb": sts(0.4)},
        config={"model": {"path": "org/Other"}, "run": "gone"},
    )
    labels = [row.label for row in make_rows(read_evaluations([first, other]))]
    assert labels[:2] == ["before · nano", "before · Other"]
    assert len(labels) == 4


def test_rows_of_a_sweep_are_called_by_readout_and_layer_in_the_order_of_its_jobs(tmp_path, write):
    for job in range(11):
        readout = {"layer": -1 - job % 2, "template": {"text": "x {sentence}"}}
        overrides = [f"readout={'abcdef'[job // 2]}", f"readout.layer={readout['layer']}"]
        config, manifest = {"readout": readout}, {"overrides": overrides, "skipped": {}}
        write(tmp_path / "sweep" / str(job), {"before/sts/stsb": sts(0.1 * job)}, config=config, manifest=manifest)
    rows = make_rows(read_evaluations([tmp_path / "sweep"]))
    assert [row.label for row in rows[:3]] == ["a · layer −1", "a · layer −2", "b · layer −1"]
    assert rows[-1].label == "f · layer −1"
    comparison = Comparison(rows)
    assert comparison.change(rows[0], [("sts/stsb", "spearman")]) is None
    assert round(comparison.change(rows[3], [("sts/stsb", "spearman")]).value, 6) == 0.3


def test_one_bare_model_is_called_base(tmp_path, write):
    folder = write(tmp_path / "bare", {"before/sts/stsb": sts(0.5)})
    assert [row.label for row in make_rows(read_evaluations([folder]))] == ["base"]


def test_long_prompts_are_cut_in_names_and_stay_apart(tmp_path, write):
    """At 40 letters, the pooling included; a common beginning is numbered."""
    for job, end in enumerate(("in one word", "in two words")):
        config = {"readout": {"template": {"text": f"What this sentence tells a reader, {{sentence}}, said {end}"}}}
        write(tmp_path / str(job), {"before/sts/stsb": sts(0.1 * job)}, config=config)
    labels = [row.label for row in make_rows(read_evaluations([tmp_path]))]
    assert labels == [f"What this sentence tells a reader, {{sen… [{number}]" for number in (1, 2)]
