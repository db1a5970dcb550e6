"""One run from the command line: what it leaves behind, and that it learns."""

import json
import math
import platform
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

MONITOR = "eval/sts/dev/spearman"


@pytest.fixture(scope="module")
def run(train, tmp_path_factory):
    """A finished run of six steps, seen and not changed by the tests below."""
    folder = tmp_path_factory.mktemp("runs")
    # An empty cache: what another run has left there was computed beside other rows, and rounded otherwise.
    words = [f"paths.cache_dir={folder}/cache", "objective=preference", "optimizer.lr=1e-2", "seed=3"]
    return train(folder / "a run", *words)


def logged(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_the_config_is_resolved_and_plain(run, tiny_base):
    text = run.config.read_text()
    assert "${" not in text
    config = run.read_config()
    assert config["model"]["path"] == str(tiny_base)
    assert config["optimizer"]["lr"] == 0.01
    assert config["data"]["seed"] == config["seed"] == 3
    assert config["paths"]["run_dir"] == str(run.path)


def test_the_manifest_tells_what_the_run_was_made_with(run):
    manifest = json.loads(run.manifest.read_text())
    assert manifest["seed"] == 3
    assert manifest["versions"]["torch"] == version("torch")
    assert {"lightning", "transformers", "peft", "datasets"} <= set(manifest["versions"])
    assert manifest["python"] == platform.python_version()
    assert manifest["commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", manifest["commit"])
    assert manifest["hardware"]["threads"] == torch.get_num_threads()
    assert "-m sempa_lightning.train" in manifest["command"]
    assert manifest["command"].endswith("optimizer.lr=1e-2 seed=3")
    counts = manifest["data"]
    assert (counts["train"]["read"], counts["train"]["kept"], counts["dev"]["kept"]) == (41, 41, 8)
    assert sum(counts["train"]["candidates"].values()) == 41
    assert counts["train"]["fingerprint"] != counts["dev"]["fingerprint"]


def test_each_step_is_logged_once_with_the_keys_of_trl(run):
    lines = logged(run)
    steps = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in steps] == [0, 1, 2, 3, 4, 5]
    rewards = {f"train/rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")}
    for line in steps:
        assert rewards | {"train/logps/chosen", "train/logps/rejected", "train/learning_rate"} <= set(line)
    probes = [line for line in lines if "val/loss" in line]
    assert [line["step"] for line in probes] == [1, 3, 5]
    assert all(MONITOR in line and "val/rewards/margins" in line for line in probes)


def test_the_first_loss_is_that_of_a_policy_that_equals_its_reference(run):
    """ln K of each row of the step, the rows taken from the seeded order and counted in the file."""
    config = run.read_config()
    lines = Path(config["data"]["train"]["table"]["path"]).read_text().splitlines()
    sizes = [1 + len(json.loads(line)["rejected"]) for line in lines]
    order = torch.randperm(41, generator=torch.Generator().manual_seed(3 * 1_000_003)).tolist()
    expected = sum(math.log(sizes[row]) for row in order[:8]) / 8
    assert len({sizes[row] for row in order[:8]}) == 2
    first = logged(run)[0]
    assert first["train/loss"] == pytest.approx(expected, abs=1e-6)
    assert first["train/rewards/margins"] == first["train/rewards/accuracies"] == 0


def test_checkpoints_hold_the_adapter_alone(run):
    for name in ("best", "last"):
        checkpoint = torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True)
        weights = checkpoint["state_dict"]
        assert len(weights) == 2 * 2 * 7  # A and B of seven linear layers in each of two blocks
        assert all(re.search(r"\.lora_[AB]\.default\.weight$", key) for key in weights)
        assert sum(value.numel() for value in weights.values()) == 2 * 8 * (4 * 64 + 3 * 96)
    assert checkpoint["global_step"] == 6
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["best.ckpt", "last-1.ckpt", "last.ckpt"]


def test_checkpoints_grow_with_the_adapter_and_not_with_the_model(train, unmeasured, tiny_tokenizer, tmp_path):
    """Two layers in the proportions of Llama-3-8B, at an eighth of the width."""
    from transformers import LlamaConfig, LlamaForCausalLM

    base = tmp_path / "base"
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=512,
        num_hidden_layers=2,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=1792,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(base)
    tiny_tokenizer.save_pretrained(base)
    run = train(tmp_path / "run", f"model.path={base}", "trainer.max_steps=1", *unmeasured)
    adapter = (run.adapter / "adapter_model.safetensors").stat().st_size
    # What is trained, and AdamW's two running means of the same size.
    assert 3 * adapter < run.last_checkpoint.stat().st_size < 1.1 * 3 * adapter
    assert run.last_checkpoint.stat().st_size < (base / "model.safetensors").stat().st_size / 10


def test_the_adapter_is_that_of_the_best_checkpoint(run):
    scores = {line["step"] + 1: line[MONITOR] for line in logged(run) if MONITOR in line}
    best = torch.load(run.checkpoints / "best.ckpt", weights_only=True)
    assert scores[best["global_step"]] == max(scores.values())
    assert len(set(scores.values())) > 1
    adapter = load_file(run.adapter / "adapter_model.safetensors")
    weights = {key.removeprefix("policy.").replace(".default", ""): v for key, v in best["state_dict"].items()}
    assert set(weights) == set(adapter)
    assert all(torch.equal(adapter[key], value) for key, value in weights.items())


def test_the_summary_compares_before_and_after(run):
    summary = run.read_summary()
    names = [
        *("sts/demo/spearman", "sts/demo/pearson"),
        *("preference/demo/accuracy", "preference/demo/margin"),
        *("generation/demo/perplexity", "generation/demo/next_token_accuracy", "generation/demo/kl"),
    ]
    keys = {f"{stage}/{name}" for stage in ("before", "after", "change_se") for name in names}
    assert set(summary) == keys | {"train/best", "train/steps"}
    assert summary["train/steps"] == 6
    assert summary["train/best"] == pytest.approx(max(line[MONITOR] for line in logged(run) if MONITOR in line))
    assert summary["before/generation/demo/kl"] == 0 < summary["after/generation/demo/kl"]
    assert logged(run)[-1] == {"step": 6, **summary}
    for suite in ("sts", "preference", "generation"):
        results = json.loads(run.evaluation(suite).read_text())
        for stage in ("before", "after"):
            metrics = {f"{stage}/{suite}/demo/{name}": value for name, value in results[f"{stage}/demo"].items()}
            assert metrics.items() <= summary.items()
    samples = json.loads(run.evaluation("samples").read_text())
    assert set(samples["before"]) == {"neighbours", "paraphrases"}


def test_every_step_tells_its_speed_padding_and_memory(run):
    steps = [line for line in logged(run) if "train/loss" in line]
    perf = ("anchors_per_s", "tokens_per_s", "padding", "peak_memory_gb")
    assert all({f"perf/{name}" for name in perf} <= line.keys() for line in steps)
    # 41 rows of well below 90 characters each side: a few dozen tokens for each anchor, most of them real.
    assert all(10 < line["perf/tokens_per_s"] / line["perf/anchors_per_s"] < 500 for line in steps)
    assert all(0 <= line["perf/padding"] < 0.2 for line in steps)
    peaks = [line["perf/peak_memory_gb"] for line in steps]
    assert peaks == sorted(peaks)
    assert 0.1 < peaks[0] < 100


def test_nothing_else_is_left_in_the_folder(run):
    files = {"config.yaml", "manifest.json", "metrics.jsonl", "summary.json", "before_after.png"}
    assert {path.name for path in run.path.iterdir()} == files | {"checkpoints", "adapter", "eval"}


def test_train_returns_the_best_monitored_value(tiny_arguments, tmp_path, capsys):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from sempa_lightning.artifacts import RunDir
    from sempa_lightning.entry import conf_dir
    from sempa_lightning.train import train

    words = [*tiny_arguments, f"paths.run_dir={tmp_path}", "optimizer.lr=1e-2", "monitor=eval/sts/dev/pearson"]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", words)
    OmegaConf.resolve(cfg)
    best = train(cfg, resume=False)
    scores = [line[cfg.monitor] for line in logged(RunDir(tmp_path)) if cfg.monitor in line]
    assert len(set(scores)) == 3
    assert best == pytest.approx(max(scores), abs=1e-7)
    assert "Before and after training" in capsys.readouterr().out


@pytest.mark.parametrize(("interval", "probed"), [(50, [2]), (2, [1, 2])])
def test_the_last_step_is_probed_and_kept(train, unmeasured, tmp_path, interval, probed):
    run = train(tmp_path, *unmeasured, "trainer.max_steps=3", f"trainer.val_check_interval={interval}")
    assert [line["step"] for line in logged(run) if MONITOR in line and "val/loss" in line] == probed
    best, last = (torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert last["global_step"] == 3
    assert best["global_step"] - 1 in probed


def test_four_rows_are_learned_by_heart(train, run, tmp_path):
    """The loss starts at the mean of ln 3 and ln 4 and ends far below the ln 2 of a coin toss."""
    lines = Path(run.read_config()["data"]["train"]["table"]["path"]).read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text("\n".join(lines[:40:10]))  # of four different scenes
    words = [f"data.{part}.table.path={tmp_path}/rows.jsonl" for part in ("train", "dev")]
    steps = [
        "objective=preference",
        "optimizer.lr=5e-3",
        "loss.beta=1.0",
        "trainer.max_epochs=12",
        "trainer.val_check_interval=12",
        f"paths.cache_dir={tmp_path}/cache",
    ]
    lines = logged(train(tmp_path / "run", *words, *steps))
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == 12
    assert losses[0] == pytest.approx((3 * math.log(3) + math.log(4)) / 4, abs=1e-6)
    assert losses[-1] < 0.1
    assert [line["val/rewards/accuracies"] for line in lines if "val/loss" in line] == [1]
