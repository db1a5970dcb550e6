"""The report of run folders with known numbers."""

import csv
import io
import json
import re

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.sweeps.report import write_report


@pytest.fixture
def page(sweep, tmp_path):
    """The page, written beside the sweep."""
    write_report([sweep], tmp_path / "out")
    return (tmp_path / "out/report.html").read_text()


@pytest.fixture
def runs(page, tmp_path):
    """Cells of the table of runs: by row, then by column."""
    tables = {table["key"]: table for table in json.loads((tmp_path / "out/report.json").read_text())["tables"]}
    columns = tables["runs"]["columns"]
    return {
        line["row"]: dict(zip(columns, (cell["text"] for cell in line["cells"]), strict=True))
        for line in tables["runs"]["lines"]
    }


def charts(page):
    return re.findall(r"<figcaption>(.*?)</figcaption>", page)


def test_seeds_are_one_row_and_the_best_comes_first(runs):
    """0.60 and 0.62: mean 0.61, standard deviation 0.02 / √2; 21 and 23: 22 and √2. The best so far counts."""
    assert list(runs) == ["2, 3", "0, 1", "4", "9", "10"]
    assert runs["2, 3"]["train/best ↑"] == "68.00 ± 2.83"
    row = runs["0, 1"]
    assert row["train/best ↑"] == "61.00 ± 1.41"
    assert row["sts/demo Spearman ↑"] == "50.00 → 58.00 ± 2.83"
    assert row["generation/demo perplexity ↓"] == "20.00 → 22.00 ± 1.41"
    assert row["generation/demo KL ↓"] == "0.2500 ± 0.0000"
    assert row["seed"] == "0, 1"


def test_what_differs_is_told_once_and_as_the_config_has_it(runs):
    """The same beta stands under objective.loss, too; seeds, names and folders differ but tell nothing."""
    assert next(iter(runs.values())).keys() == {
        "loss.beta", "state", "train/best ↑", "sts/demo Spearman ↑", "generation/demo perplexity ↓",
        "generation/demo KL ↓", "steps", "time", "seed",
    }  # fmt: skip
    assert [row["loss.beta"] for row in runs.values()] == ["0.2", "0.1", "-1", "0.3", "0.4"]


def test_states_and_steps(runs, page):
    assert {name: row["state"] for name, row in runs.items()} == {
        "2, 3": "1 done, 1 running",
        "0, 1": "done",
        "4": "failed",
        "9": "pruned",
        "10": "queued",
    }
    assert runs["2, 3"]["steps"] == "60, 12 of 60"  # though a line was cut
    assert runs["0, 1"]["steps"] == "60"
    assert "3 done, 1 running, 1 failed, 1 pruned, 1 queued" in page


def test_what_failed_is_told_with_what_it_printed(page):
    assert page.count("loss.beta=-1 is not above 0 &lt;b&gt;") == 2  # the table, and the print
    assert "<pre>step 3\nerror: loss.beta=-1 is not above 0 &lt;b&gt;</pre>" in page
    assert "at probe 1, eval/sts/dev/spearman = 0.1" in page


def test_names_are_links_to_the_folders(page):
    assert '<a href="../sweep/2/">2</a>, <a href="../sweep/3/">3</a>' in page
    assert '<a href="../sweep/10/">10</a>' in page


def test_the_page_draws_what_there_is(page):
    """One key makes no grid."""
    assert charts(page) == ["Embeddings against generation/demo perplexity", "train/loss", "eval/sts/dev/spearman"]
    assert "Crosses: standard deviation over seeds." in page
    assert "<script" not in page


def test_a_grid_has_a_map_and_lines(tmp_path, write):
    for number, (beta, lr) in enumerate((beta, lr) for beta in (0.1, 0.2) for lr in (1e-3, 1e-2)):
        write(tmp_path / str(number), beta=beta, lr=lr, state="done", summary={"train/best": beta + lr})
    write_report([tmp_path], tmp_path)
    drawn = charts((tmp_path / "report.html").read_text())
    assert drawn == ["loss.beta and optimizer.lr", "Settings and numbers"]


def test_many_runs_have_shades_and_no_legend(tmp_path, write):
    for number in range(30):
        log = [{"step": step, "train/loss": float(number)} for step in range(3)]
        write(tmp_path / str(number), beta=1 + number, state="done", summary={"train/best": 0.01 * number}, log=log)
    write_report([tmp_path], tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert len(set(re.findall(r'class="dot" style="color:(#\w+)"', page))) == 30
    assert 'class="legend"' not in page
    assert "From dark, the best by train/best, to pale" in page


def test_runs_without_a_sweep_are_told_apart_by_their_configs(tmp_path, write):
    """Of two losses the class is named, not what only one of them has."""
    write(tmp_path / "a/one", loss="hinge.Hinge", summary={"train/best": 0.1})
    write(tmp_path / "b/two", loss="ipo.Ipo", log=[{"step": 3, "train/loss": 1.0}])
    write_report([tmp_path / "a/one", tmp_path / "b"], tmp_path / "out")
    rows = csv.DictReader(io.StringIO((tmp_path / "out/report.csv").read_text()))
    cells = {(row["row"], row["column"]): row["text"] for row in rows}
    assert cells["a/one", "loss"] == "Hinge"
    assert cells["b/two", "loss"] == "Ipo"
    assert cells["a/one", "state"] == "done"
    assert cells["b/two", "state"] == "unfinished"
    assert cells["b/two", "steps"] == "4 of 60"
    assert not any("margin" in column for _, column in cells)


def test_a_best_that_no_checkpoint_reached_is_no_number(tmp_path, write):
    """A KL budget that none keeps ends with −∞."""
    write(tmp_path / "0", beta=0.1, state="done", summary=numbers_with(float("-inf")))
    write(tmp_path / "1", beta=0.2, state="done", summary=numbers_with(0.3))
    write_report([tmp_path], tmp_path)
    lines = json.loads((tmp_path / "report.json").read_text())["tables"][0]["lines"]
    assert [(line["row"], line["cells"][2]["text"]) for line in lines] == [("1", "30.00"), ("0", "–")]


def numbers_with(best):
    return {"train/best": best, "train/steps": 6.0}


def test_a_folder_of_neither_kind_is_an_error(tmp_path, sweep):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no evaluation and no run: name a folder that sempa_lightning"):
        write_report([sweep, tmp_path / "empty"], tmp_path / "out")


def test_a_damaged_summary_is_an_error_that_names_it(tmp_path, sweep):
    (sweep / "0/summary.json").write_text("{")
    with pytest.raises(UserError, match=r"0/summary\.json is no JSON"):
        write_report([sweep], tmp_path / "out")


def test_the_same_folders_give_the_same_page(page, sweep, tmp_path):
    write_report([sweep], tmp_path / "out")
    assert (tmp_path / "out/report.html").read_text() == page
