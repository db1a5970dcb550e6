"""The training-free methods, each against the model computed by hand, layer by layer, without hooks."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from sempa_lightning import train
from sempa_lightning.entry import instantiate
from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.steering.contrastive_prompting import ContrastivePrompting
from sempa_lightning.models.steering.token_prepending import TokenPrepending
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.text_mean import text_mean
from sempa_lightning.prompts.sentence import end_with_full_stop
from sempa_lightning.prompts.template import PromptTemplate

CONF = Path(train.__file__).parents[2] / "conf" / "readout"
SENTENCES = ["A dog runs", "No", "The marsh hare is a shy animal that lives among reeds."]
EOL = 'This sentence : "{sentence}" means in one word:"'
PREPENDED = 'This sentence :{placeholder} "{sentence}" means in one word:"'
IRRELEVANT = 'The irrelevant information of this sentence : "{sentence}" means in one word:"'
LAYERS = 4
HEADS = 4


def mixed(queries, keys, values):
    """Causal attention of one sequence, written out: `[heads tokens head]` each."""
    scores = queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5
    tokens = scores.shape[-1]
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    mix = scores.masked_fill(future, float("-inf")).softmax(-1) @ values
    return mix.transpose(0, 1).flatten(1)


def heads(states, number):
    return states.unflatten(-1, (number, -1)).transpose(0, 1)


class LlamaByHand:
    def __init__(self, model):
        self.inner, self.layers = model.model, model.model.layers

    def embed(self, ids):
        return self.inner.embed_tokens(ids)

    def values(self, index, hidden):
        """What goes into the output projection of a layer's attention."""
        attention, normed = self.layers[index].self_attn, self.layers[index].input_layernorm(hidden)
        cos, sin = (part[0] for part in self.inner.rotary_emb(hidden[None], torch.arange(len(hidden))[None]))

        def rotated(states):
            first, second = states.chunk(2, dim=-1)
            return states * cos + torch.cat([-second, first], dim=-1) * sin

        keys, values = (
            heads(projection(normed), HEADS // 2).repeat_interleave(2, 0)
            for projection in (attention.k_proj, attention.v_proj)
        )
        return mixed(rotated(heads(attention.q_proj(normed), HEADS)), rotated(keys), values)

    def after(self, index, hidden, values):
        """The layer's output, given what goes into the output projection."""
        layer = self.layers[index]
        hidden = hidden + layer.self_attn.o_proj(values)
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))

    def norm(self, hidden):
        return self.inner.norm(hidden)


class Gpt2ByHand:
    def __init__(self, model):
        self.inner, self.layers = model.transformer, model.transformer.h

    def embed(self, ids):
        return self.inner.wte(ids) + self.inner.wpe(torch.arange(len(ids)))

    def values(self, index, hidden):
        layer = self.layers[index]
        return mixed(*(heads(part, HEADS) for part in layer.attn.c_attn(layer.ln_1(hidden)).chunk(3, dim=-1)))

    def after(self, index, hidden, values):
        layer = self.layers[index]
        hidden = hidden + layer.attn.c_proj(values)
        return hidden + layer.mlp(layer.ln_2(hidden))

    def norm(self, hidden):
        return self.inner.ln_f(hidden)


@pytest.fixture(params=["llama", "gpt2"])
def model(request, tiny_tokenizer):
    torch.manual_seed(1)
    size = {"vocab_size": len(tiny_tokenizer), "initializer_range": 0.2}
    if request.param == "gpt2":
        config = GPT2Config(**size, n_embd=32, n_layer=LAYERS, n_head=HEADS, n_positions=640)
        return GPT2LMHeadModel(config).eval()
    config = LlamaConfig(
        **size,
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        intermediate_size=48,
        max_position_embeddings=640,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def by_hand(model):
    return LlamaByHand(model) if isinstance(model, LlamaForCausalLM) else Gpt2ByHand(model)


def plain(by_hand, ids, layer=-1):
    """Hidden states of a layer as the library counts them."""
    states = by_hand.embed(torch.tensor(ids))
    for index in range(LAYERS + 1 + layer):
        states = by_hand.after(index, states, by_hand.values(index, states))
    return by_hand.norm(states) if layer == -1 else states


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, -2])
@torch.no_grad()
def test_by_hand_is_what_the_library_computes(model, by_hand, tiny_tokenizer, layer):
    ids = tiny_tokenizer.encode("A dog runs.")
    close(plain(by_hand, ids, layer), model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0])


@pytest.mark.parametrize(("first", "last"), [(1, 2), (2, 9)])
@pytest.mark.parametrize("layer", [-1, -2])
@torch.no_grad()
def test_token_prepending(model, by_hand, tiny_tokenizer, layer, first, last):
    readout = Readout(
        PromptTemplate(PREPENDED), end_with_full_stop, layer, last_token, steering=TokenPrepending(first, last)
    )
    embeddings = Embedder(model, tiny_tokenizer, readout).encode(SENTENCES)
    before = tiny_tokenizer.encode("This sentence :")
    for sentence, embedding in zip(SENTENCES, embeddings, strict=True):
        after = tiny_tokenizer.encode(
            f' "{end_with_full_stop(sentence)}" means in one word:"', add_special_tokens=False
        )
        states = by_hand.embed(torch.tensor([*before, 7, *after]))
        states[len(before)] = torch.randn(32, generator=torch.Generator().manual_seed(0))
        for index in range(LAYERS + 1 + layer):
            if first <= index <= last:
                states[len(before)] = states[-1]
            states = by_hand.after(index, states, by_hand.values(index, states))
        close(embedding, (by_hand.norm(states) if layer == -1 else states)[-1])


@pytest.mark.parametrize("scale", [2.0, None])
@pytest.mark.parametrize(("steered", "layer"), [(1, -1), (0, -2)])
@torch.no_grad()
def test_contrastive_prompting(model, by_hand, tiny_tokenizer, steered, layer, scale):
    steering = ContrastivePrompting(PromptTemplate(IRRELEVANT), steered, scale)
    readout = Readout(PromptTemplate(EOL), end_with_full_stop, layer, last_token, steering=steering)
    embeddings = Embedder(model, tiny_tokenizer, readout, batch_size=2).encode(SENTENCES)
    for sentence, embedding in zip(SENTENCES, embeddings, strict=True):
        normal, auxiliary = (
            tiny_tokenizer.encode(text.format(sentence=end_with_full_stop(sentence))) for text in (EOL, IRRELEVANT)
        )
        irrelevant = by_hand.values(steered, plain(by_hand, auxiliary, steered - LAYERS - 1))[-1]
        states = by_hand.embed(torch.tensor(normal))
        for index in range(LAYERS + 1 + layer):
            values = by_hand.values(index, states)
            if index == steered:
                difference = values[-1] - irrelevant
                values[-1] = difference * scale if scale else F.normalize(difference, dim=0) * values[-1].norm()
            states = by_hand.after(index, states, values)
        close(embedding, (by_hand.norm(states) if layer == -1 else states)[-1])


@torch.no_grad()
def test_echo(model, by_hand, tiny_tokenizer):
    """The mean over the second copy; its first token may hold the space before it, too."""
    readout = Readout(
        PromptTemplate("Rewrite the following paragraph: {copy}. The rewritten paragraph: {sentence}"),
        str,
        -1,
        text_mean,
    )
    embeddings = Embedder(model, tiny_tokenizer, readout).encode(SENTENCES)
    for sentence, embedding in zip(SENTENCES, embeddings, strict=True):
        ids = tiny_tokenizer.encode(f"Rewrite the following paragraph: {sentence}. The rewritten paragraph: {sentence}")
        own = tiny_tokenizer.tokenize(f" {sentence}")
        own = own[1:] if own[0] == "Ġ" else own
        close(embedding, plain(by_hand, ids)[-len(own) :].mean(0))


@pytest.mark.parametrize(("name", "number", "layer"), [("meta_eol", 8, -1), ("ck", 2, -2)])
@torch.no_grad()
def test_mean_of_prompts(model, by_hand, tiny_tokenizer, name, number, layer):
    texts = OmegaConf.load(CONF / f"{name}.yaml").texts
    assert len(set(texts)) == number
    embeddings = Embedder(model, tiny_tokenizer, instantiate(OmegaConf.load(CONF / f"{name}.yaml"))).encode(SENTENCES)
    for sentence, embedding in zip(SENTENCES, embeddings, strict=True):
        total = torch.zeros(32)
        for text in texts:
            ids = tiny_tokenizer.encode(text.replace("{sentence}", end_with_full_stop(sentence)))
            total += plain(by_hand, ids, layer)[-1]
        close(embedding, total / number)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # peft sets it right for GPT-2, and says so
@pytest.mark.parametrize(
    "steering",
    [TokenPrepending(1, 2), ContrastivePrompting(PromptTemplate(IRRELEVANT), 1, 2.0)],
    ids=["token prepending", "contrastive prompting"],
)
def test_an_adapter_is_steered_like_the_merged_model(model, tiny_tokenizer, steering):
    policy = Lora(4, 8, 0.0, "all-linear").attach(model)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    readout = Readout(PromptTemplate(PREPENDED), end_with_full_stop, -2, last_token, steering=steering)
    embeddings = Embedder(policy, tiny_tokenizer, readout).encode(SENTENCES)
    close(embeddings, Embedder(policy.merge_and_unload(), tiny_tokenizer, readout).encode(SENTENCES))


class TestWhatCannotBeSteered:
    def test_layers_that_nothing_precedes(self):
        for first, last in (0, 2), (3, 2):
            with pytest.raises(UserError, match="first is 1 or more"):
                TokenPrepending(first, last)

    def test_a_template_without_placeholder(self, model, tiny_tokenizer):
        readout = Readout(PromptTemplate(EOL), str, -1, last_token, steering=TokenPrepending(1, 2))
        with pytest.raises(UserError, match=r"needs \{placeholder\}"):
            Embedder(model, tiny_tokenizer, readout).encode(SENTENCES)

    def test_a_layer_that_is_not_there(self, model, tiny_tokenizer):
        steering = ContrastivePrompting(PromptTemplate(IRRELEVANT), LAYERS, 2.0)
        readout = Readout(PromptTemplate(EOL), str, -1, last_token, steering=steering)
        with pytest.raises(UserError, match=r"steering\.layer=4: the model has layers 0 to 3"):
            Embedder(model, tiny_tokenizer, readout).encode(SENTENCES)
