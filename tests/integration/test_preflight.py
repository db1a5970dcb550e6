"""Whether a run fits is told before anything is loaded, and nothing is written."""

import re

from transformers import LlamaConfig


def numbers(stdout):
    return {name: float(size) for name, size in re.findall(r"│ (\w[\w ]*?) +│ +([\d.]+) │", stdout)}


def test_a_run_that_fits(here, tiny_arguments, tmp_path):
    done = here(*tiny_arguments, f"hydra.run.dir={tmp_path}/run", "preflight=true")
    assert done.returncode == 0, done.stderr
    found = numbers(done.stdout)
    parts = ["frozen", "trained", "gradients", "optimizer", "exchanged", "activations", "working"]
    assert list(found) == [*parts, "all", "what cpu has"]
    assert 0 < found["all"] < found["what cpu has"]
    assert abs(sum(found[part] for part in parts) - found["all"]) < 0.01 * len(parts)
    assert "it fits" in done.stdout
    assert not list(tmp_path.glob("run/*"))


def test_a_model_too_large_for_this_machine_needs_no_weights_to_be_refused(here, tmp_path):
    """A hundred GiB of weights, of which there is only a config."""
    shape = {"hidden_size": 16384, "intermediate_size": 49152, "num_hidden_layers": 8, "num_attention_heads": 128}
    LlamaConfig(vocab_size=8192, **shape).save_pretrained(tmp_path)
    words = ["model=causal_lm", f"model.path={tmp_path}", "preflight=true", f"hydra.run.dir={tmp_path}/run"]
    done = here(*words)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "it does not fit: lower data.micro_batch_tokens, or set +model.gradient_checkpointing=true" in done.stdout
    # Of each layer 4·16384² + 3·16384·49152 weights of 4 bytes.
    found = numbers(done.stdout)
    assert abs(found["frozen"] - (8 * (4 * 16384**2 + 3 * 16384 * 49152) + 2 * 8192 * 16384) * 4 / 2**30) < 0.02
    kept = found["activations"]
    checkpointed = numbers(here(*words, "+model.gradient_checkpointing=true").stdout)
    assert checkpointed["activations"] < kept / 3


def test_other_models_devices_and_references(here, tmp_path):
    words = ["model=tiny_random", "preflight=true", f"hydra.run.dir={tmp_path}/run", "data.micro_batch_tokens=2000"]
    two = here(*words, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert two.returncode == 0, two.stderr
    one = here(*words, "adapter=none", "reference=frozen", "objective=preference_nll_kl", "scoring=padded")
    assert one.returncode == 0, one.stderr
    assert abs(numbers(two.stdout)["what cpu has"] * 2 - numbers(one.stdout)["what cpu has"]) < 0.02
    assert here(*words, "trainer=gpu").stderr.count("\n") == 1
    assert "in 4 bits" in here("model=nano", *words[1:], "+model.load_in_4bit=true").stderr
