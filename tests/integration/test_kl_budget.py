"""A budget of KL on a real run: what it keeps, and what it leaves where nothing fits it."""

import json

import pytest
import torch
from safetensors.torch import load_file

WORDS = [
    *("objective=preference", "callbacks=kl_budget", "callbacks.probe.suites.generation.dev.max_texts=2"),
    "optimizer.lr=1e-2",
]
KL = "eval/generation/dev/kl"


def divergences(run):
    lines = map(json.loads, run.metrics.read_text().splitlines())
    return {line["step"] + 1: line[KL] for line in lines if KL in line}


def words(done):
    """What was printed, however lines were broken."""
    return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def unbounded(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("unbounded"), *WORDS, "callbacks.best.budget=100.0")


def test_the_best_within_the_budget_is_taken(train, unbounded, tmp_path):
    """A budget between the divergences of two checkpoints leaves the one below it."""
    found = divergences(unbounded)
    assert list(found) == [2, 4, 6]
    least = min(found, key=found.get)
    assert found[least] < sorted(found.values())[1]
    run = train(tmp_path, *WORDS, f"callbacks.best.budget={found[least]}")
    assert divergences(run) == found
    best = torch.load(run.checkpoints / "best.ckpt", weights_only=True)
    assert best["global_step"] == least


def test_without_one_within_the_budget_the_model_stays_as_it_was(here, tiny_arguments, tmp_path):
    done = here(*tiny_arguments, *WORDS, f"hydra.run.dir={tmp_path}", "callbacks.best.budget=1e-12")
    assert done.returncode == 0, done.stderr
    assert "no checkpoint is within the KL budget: the weights are those from before the training" in words(done)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert not any(value.any() for name, value in weights.items() if "lora_B" in name)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["after/generation/demo/kl"] == 0
    assert summary["train/steps"] == 6
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 6
    assert any(value.any() for name, value in last["state_dict"].items() if "lora_B" in name)


def test_a_start_that_came_to_no_checkpoint_leaves_no_metrics(train, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "train/loss": 9.0}\n')
    run = train(tmp_path, *WORDS, "trainer.max_steps=1")
    assert [line["train/loss"] < 9 for line in run.read_metrics() if "train/loss" in line] == [True]
