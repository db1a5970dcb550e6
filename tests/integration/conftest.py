"""A finished run, small but real, for the tests of what is done with runs."""

import json

import pytest
import torch
import yaml


@pytest.fixture
def write_run(tmp_path, tiny_llama, tiny_tokenizer):
    """Write a run folder on a tiny base model, with LoRA weights that change it or with a whole model."""
    from sempa_lightning.artifacts import RunDir
    from sempa_lightning.models.adapters import FullFineTuning, Lora, save_policy

    def write(*, full=False, readout=None):
        base = tmp_path / "base"
        tiny_llama.save_pretrained(base)
        tiny_tokenizer.save_pretrained(base)
        adapter = FullFineTuning() if full else Lora(r=4, alpha=8, dropout=0.0, target_modules="all-linear")
        policy = adapter.attach(tiny_llama)
        trained = [p for name, p in policy.named_parameters() if full or "lora_B" in name]
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(1)
            for parameter in trained:
                parameter.add_(0.1 * torch.randn_like(parameter))
        run = RunDir(tmp_path / "run")
        save_policy(policy, tiny_tokenizer, run)
        run.config.write_text(yaml.safe_dump(_config(str(base), readout or {})))
        counts = {"read": 12, "kept": 10, "anchors": 9}
        manifest = {"command": "python -m sempa_lightning.train seed=3", "seed": 3, "data": {"train": counts}}
        run.manifest.write_text(json.dumps(manifest))
        summary = {"before/sts/demo/spearman": 0.5, "after/sts/demo/spearman": 0.625, "train/steps": 7}
        run.summary.write_text(json.dumps(summary))
        return run

    return write


def _config(base, readout):
    """The part of a run's config that says how to rebuild and describe the model, as training resolves it."""
    package = "sempa_lightning"
    return {
        "model": {"_target_": f"{package}.models.causal_lm.load_causal_lm", "path": base},
        "adapter": {"_target_": f"{package}.models.adapters.Lora", "r": 4, "alpha": 8},
        "objective": {
            "_target_": f"{package}.training.objectives.preference.Preference",
            "loss": {"_target_": f"{package}.losses.plackett_luce.PlackettLuce", "beta": 0.1},
        },
        "data": {"train": {"table": {"path": f"pkg://{package}/assets/demo/train.jsonl"}}},
        "prompt": {
            "_target_": f"{package}.prompts.template.PromptTemplate",
            "text": 'Keep the same meaning of this sentence: "{sentence}", while making some changes.',
            "separator": "\n",
        },
        "readout": {
            "_target_": f"{package}.models.embedder.Readout",
            "template": {
                "_target_": f"{package}.prompts.template.PromptTemplate",
                "text": 'This sentence : "{sentence}" means in one word:"',
            },
            "preprocess": {"_target_": f"{package}.prompts.sentence.end_with_full_stop", "_partial_": True},
            "layer": -1,
            "pooling": {"_target_": f"{package}.pooling.last_token.last_token", "_partial_": True},
            **readout,
        },
    }
