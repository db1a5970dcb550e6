"""What charts are drawn from."""

import math
from dataclasses import replace

import pytest

from sempa_lightning.evaluation.report.charts.curves import curve
from sempa_lightning.evaluation.report.metric import Display
from sempa_lightning.sweeps.report.charts import parallel
from sempa_lightning.sweeps.report.charts.grids import grids, ordered
from sempa_lightning.sweeps.report.rows import make_rows
from sempa_lightning.sweeps.report.run import read_run
from sempa_lightning.sweeps.report.scores import Score

SCORE = Score("best", ("train/best",), Display("best", 100.0, 2, "higher"))


def test_a_long_log_is_averaged_in_bins():
    """250 points: bins of 3, the last of 1."""
    log = [{"step": step, "loss": float(step)} for step in range(250)]
    points = curve([*log, {"step": 250, "loss": math.nan}, {"step": 251}], "loss")
    assert len(points) == 84
    assert points[0] == (1.0, 1.0)
    assert points[-1] == (249.0, 249.0)


@pytest.fixture
def rows(tmp_path, write):
    """Beta × rate without one corner, and a third value of beta once: 4 of 6 fields."""
    scores = {(0.1, 1e-3): 0.1, (0.1, 1e-2): 0.3, (0.2, 1e-3): 0.5, (0.4, 1e-2): 0.9}
    folders = [
        write(tmp_path / str(number), beta=beta, lr=lr, state="done", summary={"train/best": score})
        for number, ((beta, lr), score) in enumerate(scores.items())
    ]
    return make_rows([read_run(folder) for folder in folders], ["0", "1", "2", "3"])


def test_a_grid_holds_means_and_leaves_out_what_was_not_run(rows):
    """The means for beta are 20, 50 and 90, those for the rate 30 and 60: beta moves the score more."""
    (grid,) = grids(rows, SCORE)
    assert grid[:2] == ("optimizer.lr", "loss.beta")
    assert (grid.down_values, grid.across_values) == (["0.001", "0.01"], ["0.1", "0.2", "0.4"])
    assert grid.means[0] == pytest.approx([10.0, 50.0, math.nan], nan_ok=True)
    assert grid.means[1] == pytest.approx([30.0, math.nan, 90.0], nan_ok=True)


def test_what_fills_less_than_half_is_no_grid(rows):
    """Three runs with a beta and a rate of their own: 3 of 9."""
    one = rows[:1] + [
        replace(row, settings={"loss.beta": str(n), "optimizer.lr": str(n)}) for n, row in enumerate(rows[1:3])
    ]
    assert grids(one, SCORE) == []


def test_values_that_are_numbers_go_by_size():
    assert ordered(["0.1", "1e-5", "0.02", "0.1"]) == ["1e-5", "0.02", "0.1"]
    assert ordered(["hinge", "0.1", "dpo", "hinge"]) == ["hinge", "0.1", "dpo"]


def test_axes_go_from_0_to_1_and_better_is_higher(rows):
    worse = SCORE._replace(how=Display("loss", 1.0, 2, "lower"))
    assert parallel._score_axis(rows, SCORE).heights == pytest.approx([0.0, 0.25, 0.5, 1.0])
    assert parallel._score_axis(rows, worse).heights == pytest.approx([1.0, 0.75, 0.5, 0.0])
    axis = parallel._setting_axis(rows, "loss.beta")
    assert axis.heights == pytest.approx([0.0, 0.0, 1 / 3, 1.0])
    assert [text for _, text in axis.ticks] == ["0.1", "0.2", "0.4"]
