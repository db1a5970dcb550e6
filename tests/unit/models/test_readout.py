"""Readouts: layers, attention, means of several."""

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from sempa_lightning.errors import UserError
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.readout import MeanOf, Readout, mean_of_prompts
from sempa_lightning.pooling.attention_weighted import attention_weighted
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.pooling.text_mean import text_mean
from sempa_lightning.prompts.template import PromptTemplate

EOL = PromptTemplate('This sentence : "{sentence}" means in one word:"')
SENTENCES = ["A dog runs", "No", "The marsh hare is a shy animal that lives among reeds."]


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_several_layers_are_averaged(tiny_llama, tiny_tokenizer):
    def encode(layer):
        return Embedder(tiny_llama, tiny_tokenizer, Readout(EOL, str, layer, last_token)).encode(SENTENCES)

    close(encode([-1, 1, 0]), (encode(2) + encode(-2) + encode(0)) / 3)
    assert torch.equal(encode(2), encode(-1))
    assert (encode([-1, 1]) - encode(-1)).abs().max() > 0.01


@pytest.mark.parametrize("layer", [3, -4, [-1, 7]])
def test_a_layer_that_is_not_there(tiny_llama, tiny_tokenizer, layer):
    with pytest.raises(UserError, match=r"readout\.layer=(3|-4|7): the model's layers are 0 to 2, or -3 to -1"):
        Embedder(tiny_llama, tiny_tokenizer, Readout(EOL, str, layer, last_token)).encode(SENTENCES)


def test_what_no_model_could_do_is_refused_at_once():
    with pytest.raises(UserError, match="names no layer"):
        Readout(EOL, str, [], last_token)
    with pytest.raises(UserError, match="nobody fills"):
        Readout(PromptTemplate("{placeholder}{sentence}"), str, -1, last_token)
    with pytest.raises(UserError, match="at least one"):
        MeanOf([])


def test_a_mean_of_readouts_averages_vectors(tiny_llama, tiny_tokenizer):
    def encode(readout):
        return Embedder(tiny_llama, tiny_tokenizer, readout).encode([*SENTENCES, "No"])

    parts = [Readout(EOL, str, -1, last_token), Readout(PromptTemplate("{sentence}"), str.upper, 1, mean)]
    other = mean_of_prompts(["<{sentence}>", "{sentence}!"], str, -2, text_mean)
    assert [part.template.text for part in other.parts] == ["<{sentence}>", "{sentence}!"]
    expected = sum(encode(part) for part in [*parts, *other.parts]) / 4
    close(encode(MeanOf([*parts, other])), expected)


def test_progress_runs_once_over_the_batches_of_all_prompts(tiny_llama, tiny_tokenizer):
    seen = []
    readout = mean_of_prompts(["<{sentence}>", "{sentence}!"], str, -1, last_token)
    Embedder(tiny_llama, tiny_tokenizer, readout, 2).encode(SENTENCES, lambda batches: seen.append(batches) or batches)
    assert [[len(batch) for batch in batches] for batches in seen] == [[2, 1, 2, 1]]


@pytest.fixture(params=["llama", "sliding window"])
def model(request, tiny_llama, tiny_tokenizer):
    if request.param == "llama":
        return tiny_llama
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        sliding_window=12,
    )
    return MistralForCausalLM(config).eval()


@pytest.mark.parametrize("layer", [-1, 1])
def test_attention_is_the_last_token_s_at_the_readout_s_layer(model, tiny_tokenizer, layer):
    """Against a plain forward of each prompt, with attention weights from the library."""
    opening = 'In one word, this sentence of a few words means : "'
    template = PromptTemplate(opening + '{sentence}"')
    readout = Readout(template, str, layer, attention_weighted, attention=True)
    embeddings = Embedder(model, tiny_tokenizer, readout).encode(SENTENCES)
    model.set_attn_implementation("eager")
    for sentence, embedding in zip(SENTENCES, embeddings, strict=True):
        before, own = (len(tiny_tokenizer.encode(text, add_special_tokens=False)) for text in (opening, sentence))
        ids = tiny_tokenizer.encode(template.fill(sentence), return_tensors="pt")
        with torch.no_grad():
            output = model(ids, output_hidden_states=True, output_attentions=True)
        text = slice(1 + before, 1 + before + own)
        weights = output.attentions[0 if layer == 1 else 1][0, :, -1].mean(0)[text]
        close(embedding, (weights / weights.sum()) @ output.hidden_states[layer][0, text])


def test_embeddings_attend_to_nothing(tiny_llama, tiny_tokenizer):
    with pytest.raises(UserError, match="layers are 1 to 2, or -2 to -1"):
        readout = Readout(EOL, str, 0, attention_weighted, attention=True)
        Embedder(tiny_llama, tiny_tokenizer, readout).encode(SENTENCES)
