"""Attention of the last token, against a plain forward pass that keeps all weights."""

import copy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.attention import last_token_attention

IDS = [0, 17, 33, 5, 9, 120, 44, 8]


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=256))


def mistral():
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    return MistralForCausalLM(MistralConfig(vocab_size=400, **sizes, num_key_value_heads=2, sliding_window=4))


@pytest.fixture(params=["llama", "gpt2", "mistral", "adapter"])
def model(request, tiny_llama):
    torch.manual_seed(0)
    if request.param == "adapter":
        policy = Lora(4, 8, 0.0, "all-linear").attach(tiny_llama)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.1 * torch.randn(parameter.shape)
        return policy
    return {"llama": lambda: tiny_llama, "gpt2": gpt2, "mistral": mistral}[request.param]()


def plain(model, ids):
    """One pass over the whole prompt by a copy with eager attention."""
    model = copy.deepcopy(model).eval()
    model.set_attn_implementation("eager") if not hasattr(model, "peft_config") else (
        model.get_base_model().set_attn_implementation("eager")
    )
    with torch.no_grad():
        weights = model(torch.tensor([ids]), output_attentions=True).attentions
    return torch.stack([layer[0, :, -1].mean(0) for layer in weights])


@pytest.mark.parametrize("length", [1, 2, 8])
def test_the_last_row_of_a_plain_forward_pass(model, length):
    found = last_token_attention(model, IDS[:length])
    torch.testing.assert_close(found, plain(model, IDS[:length]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.sum(-1), torch.ones(len(found)))


def test_nothing_outside_a_window():
    torch.manual_seed(0)
    found = last_token_attention(mistral(), IDS)
    assert (found[:, :4] == 0).all()
    assert (found[:, 4:] > 0).all()


def test_an_adapter_is_seen(tiny_llama):
    policy = Lora(4, 8, 0.0, "all-linear").attach(tiny_llama)
    before = last_token_attention(policy, IDS)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1
    assert (last_token_attention(policy, IDS) - before).abs().max() > 1e-4


def test_the_model_is_left_as_found(tiny_llama):
    tiny_llama.train()
    before = tiny_llama.config._attn_implementation
    logits = tiny_llama(torch.tensor([IDS])).logits
    last_token_attention(tiny_llama, IDS)
    assert before == "sdpa" == tiny_llama.config._attn_implementation
    assert all(module.training for module in tiny_llama.modules())
    assert torch.equal(tiny_llama(torch.tensor([IDS])).logits, logits)
    with pytest.raises(IndexError):
        last_token_attention(tiny_llama, [0, 10**6])
    assert tiny_llama.config._attn_implementation == "sdpa"


def test_a_model_without_weights_says_so(tiny_llama, monkeypatch):
    forward = tiny_llama.model.forward

    def silent(**inputs):
        return forward(**inputs | {"output_attentions": False})

    monkeypatch.setattr(tiny_llama.model, "forward", silent)
    with pytest.raises(UserError, match="LlamaForCausalLM shows no attention weights"):
        last_token_attention(tiny_llama, IDS)
