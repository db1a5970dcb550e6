"""Choices of Optuna that survive the process, pruning by hand arithmetic, and bad storage files."""

import json
import resource
from functools import partial

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sempa_lightning.errors import UserError
from sempa_lightning.sweeps.search import Search

SPACE = {
    "lr": FloatDistribution(1e-5, 1e-2, log=True),
    "rank": IntDistribution(1, 8),
    "loss": CategoricalDistribution(["a", "b"]),
}
STS = {"train/best": "maximize"}


@pytest.fixture
def search(sweep):
    def make(objectives=STS, pruner=None, seed=0):
        sampler = partial(optuna.samplers.TPESampler, n_startup_trials=2)
        return Search(sweep.study, objectives, sampler, pruner or optuna.pruners.NopPruner(), seed=seed, monitor="sts")

    return make


def ended(trial, number, state="done", **summary):
    one = trial(number)
    one.run.path.mkdir(exist_ok=True)
    one.run.summary.write_text(json.dumps({key.replace("_", "/"): value for key, value in summary.items()}))
    return one.became(state)


def study(sweep):
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep.study}")


def score(values):
    return values["lr"] + (values["loss"] == "a")


def through(found, trial, trials, stop_before_telling=None):
    """Run a search; what it chose."""
    chosen = []
    for number, values in found.choices(SPACE, trials):
        chosen.append((number, values))
        if number == stop_before_telling:
            break
        found.tell(ended(trial, number, train_best=score(values)))
    return chosen


def test_a_search_that_dies_chooses_what_it_would_have_chosen(search, trial, sweep):
    whole = through(search(), trial, 6)
    assert [number for number, _ in whole] == list(range(6))
    assert len({values["lr"] for _, values in whole}) == 6
    assert all(1e-5 <= v["lr"] <= 1e-2 and 1 <= v["rank"] <= 8 and v["loss"] in "ab" for _, v in whole)
    sweep.study.unlink()
    first = through(search(), trial, 6, stop_before_telling=3)
    rest = through(search(), trial, 6)
    assert first == whole[:4]
    assert rest == whole[3:]
    assert [one.state.name for one in study(sweep).trials] == ["COMPLETE"] * 6


def test_a_search_that_dies_while_it_chooses(search, trial, sweep):
    """The trial has one of its values by then: it keeps that, and gets the others."""
    found = search()
    next(found.choices({"lr": SPACE["lr"]}, 2))
    (left,) = study(sweep).trials
    number, values = next(search().choices(SPACE, 2))
    assert (number, values["lr"]) == (0, left.params["lr"])
    assert values.keys() == SPACE.keys()


def test_another_seed_chooses_otherwise(search, trial, sweep):
    one = through(search(seed=1), trial, 3)
    sweep.study.unlink()
    assert through(search(seed=2), trial, 3) != one


def test_more_trials_may_be_asked_for_later(search, trial):
    assert [number for number, _ in through(search(), trial, 2)] == [0, 1]
    assert [number for number, _ in through(search(), trial, 3)] == [2]
    assert through(search(), trial, 3) == []


def test_failures_are_told_and_count(search, trial, sweep):
    found = search()
    summaries = [{}, {"train_best": 0.5}, {"train_steps": 5.0}, {"train_best": float("nan")}]
    for number, _ in found.choices(SPACE, 4):
        found.tell(ended(trial, number, "done" if number else "failed", **summaries[number]))
    assert [one.state.name for one in study(sweep).trials] == ["FAIL", "COMPLETE", "FAIL", "FAIL"]
    record = json.loads(trial(2).run.trial.read_text())
    assert (record["state"], record["why"]) == ("failed", "summary.json lacks a number for one of train/best")


def test_an_objective_that_no_run_knows_is_told_at_once(search, trial, sweep):
    """The trial is not lost: with the right key it counts."""
    misspelt = search({"train/bset": "maximize"})
    next(misspelt.choices(SPACE, 2))
    with pytest.raises(UserError, match=r"^train/bset is not in .+, such as train/best, .+ goes on with another$"):
        misspelt.tell(ended(trial, 0, train_best=0.5, train_steps=5.0))
    found = search({"train/best": "maximize"})
    number, _ = next(found.choices(SPACE, 2))
    found.tell(trial(number).became("done"))
    assert [(one.state.name, one.value) for one in study(sweep).trials] == [("COMPLETE", 0.5)]


@pytest.mark.parametrize("others", [{"train/best": "minimize"}, {"train/best": "maximize", "train/steps": "minimize"}])
def test_directions_are_those_of_the_beginning(search, others):
    search()
    with pytest.raises(UserError, match=r"was begun to maximize and is asked to (minimize|maximize, minimize): set"):
        search(others)
    search({"train/other": "maximize"})


def test_asynchronous_halving(search, trial, sweep):
    """Rungs at probe 1, 2, 4; of the trials that came to a rung so far, the best half goes on.

    Trial 0 comes first and goes on. Trial 1 (0.4) is below 0.5. Trial 2 (0.6) is the best of three at probe 1 (a half
    of three is one), and at probe 2 falls behind trial 0 (0.55 to 0.7).
    """
    probes = {0: [0.5, 0.7, 0.7], 1: [0.4], 2: [0.6, 0.55]}
    found = search(pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2))
    why = {}
    for number, _ in found.choices(SPACE, 3):
        one = trial(number)
        one.run.path.mkdir()
        for step, value in enumerate(probes[number]):
            with one.run.metrics.open("a") as lines:
                lines.write(json.dumps({"step": step, "train/loss": 1.0}) + "\n")
                lines.write(json.dumps({"step": step, "sts": value}) + "\n")
                lines.write('{"step": 9, "st')  # another process is writing
            why[number] = found.hopeless(one)
            one.run.metrics.write_text(one.run.metrics.read_text().removesuffix('{"step": 9, "st'))
        found.tell(ended(trial, number, state="pruned" if why[number] else "done", train_best=0.7))
    assert why == {0: None, 1: "at probe 1, sts = 0.4", 2: "at probe 2, sts = 0.55"}
    assert [one.state.name for one in study(sweep).trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    assert study(sweep).trials[0].intermediate_values == {1: 0.5, 2: 0.7, 3: 0.7}


def test_a_resumed_trial_s_probes_are_reported_once(search, trial, sweep):
    next(search().choices(SPACE, 1))
    one = trial(0)
    one.run.path.mkdir()
    found = search()
    next(found.choices(SPACE, 1))
    one.run.metrics.write_text('{"sts": 0.1}\n{"sts": 0.2}\n')
    found.hopeless(one)
    found = search()
    next(found.choices(SPACE, 1))
    one.run.metrics.write_text('{"sts": 0.1}\n')  # cut back to the checkpoint
    found.hopeless(one)
    one.run.metrics.write_text('{"sts": 0.1}\n{"sts": 0.2}\n{"sts": 0.3}\n')
    found.hopeless(one)
    assert study(sweep).trials[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_several_objectives(search, trial, sweep):
    from sempa_lightning.sweeps.table import unbeaten

    rows = [(0.5, 9.0), (0.4, 8.0), (0.3, 8.5), (0.6, 11.0)]
    found = search({"sts": "maximize", "ppl": "minimize"})
    for number, _ in found.choices(SPACE, 4):
        assert found.hopeless(trial(number)) is None
        found.tell(ended(trial, number, sts=rows[number][0], ppl=rows[number][1]))
    best = sorted(one.number for one in study(sweep).best_trials)
    stars = unbeaten([(sts, -ppl) for sts, ppl in rows])
    assert best == [number for number, star in enumerate(stars) if star] == [0, 1, 3]


@pytest.mark.parametrize("content", [b"no database at all, far from it" * 50, b"SQLite format 3\0" + bytes(5000)])
def test_a_broken_storage_file(search, sweep, content):
    sweep.study.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{sweep.study} cannot be read \(.*\): remove it, and the runs beside it "):
        search()


def test_a_disk_that_fills_up_meanwhile(search, trial, sweep):
    """A limit on the size of files stands for it."""
    found, limits = search(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sweep.study.stat().st_size, limits[1]))
    message = (
        rf"^{sweep.study} cannot be used \(\(sqlite3.OperationalError\) .*\): see to its disk, then resume the sweep$"
    )
    try:
        with pytest.raises(UserError, match=message), found.telling():
            through(found, trial, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    through(search(), trial, 3)
    assert len(study(sweep).trials) >= 3


def test_a_storage_file_that_breaks_meanwhile(search, trial, sweep):
    found = search()
    sweep.study.write_bytes(b"no database at all, far from it" * 50)
    message = rf"^{sweep.study} cannot be read \(\(sqlite3.DatabaseError\) .*\): remove it, and the runs beside it "
    with pytest.raises(UserError, match=message), found.telling():
        through(found, trial, 3)
