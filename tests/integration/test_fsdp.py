"""Weights that are spread over two processes: what is trained, written and read is what one process would."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from sempa_lightning.artifacts import RunDir

FSDP = ["trainer=fsdp", "trainer.precision=32-true"]
# Processes have different numbers of micro-batches, but for those that keep company.
WORDS = ["objective=preference", "data.max_rows=29", "data.batch_size=7", "data.micro_batch_tokens=256"]


def losses(run):
    return [
        line["train/loss"] for line in map(json.loads, run.metrics.read_text().splitlines()) if "train/loss" in line
    ]


@pytest.fixture(scope="module")
def one(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("one"), *WORDS)


@pytest.fixture(scope="module")
def two(pair, tmp_path_factory):
    return pair(tmp_path_factory.mktemp("two"), *WORDS, *FSDP)


def test_evaluation_and_files_are_those_of_one_process(one, two):
    assert {path.relative_to(two.path) for path in two.path.rglob("*")} == {
        path.relative_to(one.path) for path in one.path.rglob("*")
    }
    expected, found = one.read_summary(), two.read_summary()
    assert expected.keys() == found.keys()
    assert {key.partition("/")[0] for key in found} >= {"before", "after"}
    assert found == pytest.approx(expected, abs=1e-3)


def test_checkpoints_and_adapter_are_small_and_whole(one, two):
    for name in ("best", "last"):
        expected, found = (torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True) for run in (one, two))
        assert expected["state_dict"].keys() == found["state_dict"].keys()
        for key, value in expected["state_dict"].items():
            torch.testing.assert_close(found["state_dict"][key], value, atol=1e-5, rtol=1e-4)
        ours, theirs = (checkpoint["optimizer_states"][0] for checkpoint in (found, expected))
        assert ours["param_groups"] == theirs["param_groups"]
        assert ours["state"].keys() == theirs["state"].keys()
    saved = load_file(two.adapter / "adapter_model.safetensors")
    best = torch.load(two.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    assert {key: value.shape for key, value in saved.items()} == {
        key.removeprefix("policy.").replace(".default", ""): value.shape for key, value in best.items()
    }
    for key, value in best.items():
        torch.testing.assert_close(saved[key.removeprefix("policy.").replace(".default", "")], value)


@pytest.mark.parametrize(
    "choice",
    [
        ["reference=adapter_disabled"],
        ["reference=frozen"],
        ["trainer.strategy.offload=true"],
        ["trainer.strategy.replicas=2"],
        ["+model.gradient_checkpointing=true"],
    ],
    ids=" ".join,
)
def test_the_reference_stays_and_nothing_else_changes(pair, unmeasured, one, tmp_path, choice):
    """Losses are of log-ratios: were the reference to move with the adapter, they would differ from the second step."""
    found = losses(pair(tmp_path, *WORDS, *unmeasured, *FSDP, *choice))
    assert len(set(losses(one))) == len(found) == 5
    assert found == pytest.approx(losses(one), abs=1e-6)


def test_all_weights_with_embeddings_that_the_head_shares(train, pair, every_step, steps, tiny_base, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    base = shutil.copytree(tiny_base, tmp_path / "base")
    config = LlamaConfig.from_pretrained(base, tie_word_embeddings=True)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(base)
    words = [*every_step, *WORDS, f"model.path={base}", "++model.dtype=float64", "adapter=none", "reference=frozen"]
    alone = train(tmp_path / "one", *words)
    together = pair(tmp_path / "two", *words, *FSDP)
    steps(alone).assert_equal(steps(together), tolerance=1e-6)
    whole = LlamaForCausalLM.from_pretrained(together.model)
    assert whole.lm_head.weight is whole.model.embed_tokens.weight
    assert whole.config.architectures == ["LlamaForCausalLM"]


def test_a_base_in_half_precision_has_an_adapter_in_single(pair, unmeasured, tmp_path):
    run = pair(tmp_path, *WORDS, *unmeasured, "trainer=fsdp", "++model.dtype=bfloat16", "optimizer.lr=1e-2")
    state = torch.load(run.last_checkpoint, weights_only=True)["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32}
    # Every B has left 0: gradients have reached all layers.
    assert all(value.any() for name, value in state.items() if "lora_B" in name)


@pytest.mark.parametrize("begun_by", ["one", "two"])
def test_a_run_goes_on_with_another_number_of_processes(
    train, here, pair, every_step, steps, unmeasured, tmp_path, begun_by
):
    words = [word for word in every_step if "warmup" not in word]
    words += [*WORDS, *unmeasured, "scheduler=constant", "++model.dtype=float64"]
    whole = train(tmp_path / "whole", *words)
    run, half = RunDir(tmp_path / "half"), [*words, "trainer.max_steps=2"]
    ending = [f"resume={run.path}", "trainer.max_steps=5", "trainer.val_check_interval=1"]
    if begun_by == "one":
        train(run.path, *half)
        shutil.copy(run.checkpoints / "step=2.ckpt", run.last_checkpoint)
        pair(run.path, f"hydra.run.dir={run.path}", *ending, *FSDP, resume=True)
    else:
        pair(run.path, *half, *FSDP)
        shutil.copy(run.checkpoints / "step=2.ckpt", run.last_checkpoint)
        done = here(*ending, "trainer=cpu")
        assert done.returncode == 0, done.stderr
    steps(whole).assert_equal(steps(run), tolerance=1e-6)
