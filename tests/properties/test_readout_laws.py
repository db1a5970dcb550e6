"""Laws that every readout must obey, on a Llama and on a GPT-2, with and without an adapter."""

from pathlib import Path

import hydra
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from sempa_lightning import train
from sempa_lightning.entry import instantiate
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.readout import SentenceReadout

CONF = Path(train.__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in CONF.glob("readout/*.yaml"))
OPEN = {"text": ["readout.template.text='Topic of {sentence}:'"]}
POSITIONS = 640
ROWS = 6


def test_there_are_readouts():
    assert {"prompt_eol", "mean", "echo", "meta_eol", "token_prepending", "contrastive_prompting", "ck"} <= set(NAMES)


@pytest.fixture(params=NAMES)
def readout(request):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", [f"readout={request.param}", *OPEN.get(request.param, ())])
    return instantiate(cfg.readout)


@pytest.fixture(params=["llama", "gpt2", "adapter"])
def model(request, tiny_tokenizer):
    """Five layers, because contrastive prompting steers the fifth."""
    torch.manual_seed(0)
    size = len(tiny_tokenizer)
    if request.param == "gpt2":
        config = GPT2Config(vocab_size=size, n_embd=16, n_layer=5, n_head=2, n_positions=POSITIONS)
        return GPT2LMHeadModel(config).eval()
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        num_hidden_layers=5,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        max_position_embeddings=POSITIONS,
    )
    llama = LlamaForCausalLM(config).eval()
    if request.param == "llama":
        return llama
    policy = Lora(2, 8, 0.5, "all-linear").attach(llama).train()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return policy


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_alone_in_any_batch_in_any_order_the_same(readout, model, tiny_tokenizer, sentences):
    assert isinstance(readout, SentenceReadout)
    some = ["", "  ", *sentences[:ROWS]]
    whole = Embedder(model, tiny_tokenizer, readout, len(some))
    embeddings = whole.encode(some)
    assert embeddings.isfinite().all()
    assert len(embeddings.unique(dim=0)) > ROWS
    close(Embedder(model, tiny_tokenizer, readout, 3).encode(some[::-1]).flip(0), embeddings)
    for row in (0, 2, len(some) - 1):
        close(whole.encode([some[row]])[0], embeddings[row])


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_too_long_texts_are_cut_and_counted(readout, model, tiny_tokenizer):
    """What differs beyond the context alone is the same."""
    embedder = Embedder(model, tiny_tokenizer, readout)
    long = "A word. " * 400
    first, second, third = embedder.encode([long + "end.", long + "other end.", "A word."])
    close(first, second)
    assert (first - third).abs().max() > 1e-3
    assert embedder.truncated([long + "end.", "A word.", long + "end."]) == 2


def state(model):
    """All that an encoder might leave behind."""
    return (
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
        {module.config._attn_implementation for module in model.modules() if hasattr(module, "config")},
        torch.get_rng_state().tolist(),
    )


def test_the_model_is_left_as_found(readout, model, tiny_tokenizer, sentences):
    # The library installs hooks of its own when states are first asked for, and keeps them.
    model(torch.tensor([[1, 2]]), output_hidden_states=True)
    before, weights = state(model), {name: value.clone() for name, value in model.state_dict().items()}
    embeddings = Embedder(model, tiny_tokenizer, readout, 2).encode(sentences[:3])
    assert not embeddings.requires_grad
    assert state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())

    def fail(batches):
        yield batches[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Embedder(model, tiny_tokenizer, readout, 1).encode(sentences[:3], fail)
    assert state(model) == before
