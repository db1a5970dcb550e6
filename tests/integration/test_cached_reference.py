"""Log-probabilities of the reference are computed once for all runs, and are those of a reference that is live."""

import json
from pathlib import Path

import pytest

from sempa_lightning.scoring.reference import AdapterDisabled

WORDS = ("objective=preference", "optimizer.lr=1e-2")


def losses(run):
    lines = map(json.loads, run.metrics.read_text().splitlines())
    return [line[key] for line in lines for key in ("train/loss", "val/loss") if key in line]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return f"paths.cache_dir={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def first(train, cache, tmp_path_factory):
    """The run that fills the cache."""
    return train(tmp_path_factory.mktemp("first"), *WORDS, cache)


def test_a_cached_reference_trains_like_a_live_one(train, first, tmp_path):
    live = train(tmp_path, *WORDS, "reference=adapter_disabled")
    assert losses(first) == losses(live)


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=1e-3", "loss.beta=0.5", "adapter.r=2", "adapter.target_modules=[q_proj]"],
        ["seed=7", "data.batch_size=5"],
        ["scoring=padded"],
    ],
    ids=["rate, beta and adapter", "seed and order", "layout"],
)
def test_a_second_run_does_no_reference_forward(train, first, cache, tmp_path, monkeypatch, words):
    assert first.read_summary()["train/steps"] == 6

    def forward(*_):
        raise AssertionError("the reference was run")

    monkeypatch.setattr(AdapterDisabled, "logps", forward)
    run = train(tmp_path, *WORDS, cache, *words)
    assert run.read_summary()["train/steps"] in {6, 9}


def test_pairs_with_candidates_of_others_are_scored_live_and_not_kept(train, first, cache, tmp_path):
    words = (*WORDS, "data.negatives.in_batch=2")
    folder = Path(cache.partition("=")[2]) / "reference"
    before = {path: path.stat().st_size for path in folder.rglob("*")}
    cached = train(tmp_path / "cached", *words, cache)
    assert before == {path: path.stat().st_size for path in folder.rglob("*")}
    assert losses(cached) == losses(train(tmp_path / "live", *words, "reference=adapter_disabled"))
    assert losses(cached) != losses(first)


def test_another_precision_is_another_reference(train, first, cache, tmp_path, monkeypatch):
    """The weights may be the same: the numbers are not."""
    calls = []
    logps = AdapterDisabled.logps

    def counted(self, policy, batch):
        calls.append(batch)
        return logps(self, policy, batch)

    monkeypatch.setattr(AdapterDisabled, "logps", counted)
    train(tmp_path / "same", *WORDS, cache)
    assert not calls
    train(tmp_path / "bfloat16", *WORDS, cache, "trainer.precision=bf16-mixed")
    assert calls
