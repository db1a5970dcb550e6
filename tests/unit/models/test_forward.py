"""The probes of a model: is it causal, does its cache continue a prefix, which layer cannot carry an adapter."""

import logging

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
)

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import Lora, SavedAdapter
from sempa_lightning.models.causal_lm import decoder, max_positions
from sempa_lightning.models.embedder import Embedder, Readout
from sempa_lightning.models.forward import check_causal
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.logps import check_layout, completion_logps
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded, PaddedRight
from sempa_lightning.types import TokenizedRow

SIZE = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2}
ATTENTION = {**SIZE, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 128}
LFM2 = {**ATTENTION, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}
MODELS = {
    "bert": lambda: BertLMHeadModel(BertConfig(**ATTENTION)),
    "bert decoder": lambda: BertLMHeadModel(BertConfig(**ATTENTION, is_decoder=True)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4)),
    "lfm2": lambda: Lfm2ForCausalLM(Lfm2Config(**LFM2)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(**SIZE, state_size=8, time_step_rank=4)),
    "roberta decoder": lambda: RobertaForCausalLM(RobertaConfig(**ATTENTION, is_decoder=True, pad_token_id=1)),
}
EOL = Readout(PromptTemplate('This sentence : "{sentence}" means in one word:"'), str, -1, last_token)
SENTENCES = ["A dog runs", "No", "It rains a lot in the evening"]
ROWS = [
    TokenizedRow("a", [2, 5, 6, 7], [[8, 9, 3], [10, 3]], 1),
    TokenizedRow("b", [2, 11], [[12, 3], [13, 14, 15, 3], [16, 3]], 1),
]


def build(name):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"bert"}))
def test_causal_models_pass(name):
    check_causal(build(name))


def test_an_encoder_is_no_causal_model():
    with pytest.raises(UserError, match=r"model\.path: BertLMHeadModel .*later tokens.*is_decoder: true"):
        check_causal(build("bert"))


def test_embedding_with_an_encoder_is_refused(tiny_tokenizer):
    with pytest.raises(UserError, match="later tokens"):
        Embedder(build("bert"), tiny_tokenizer, EOL).encode(SENTENCES)


@pytest.mark.parametrize(("name", "limit"), [("bloom", None), ("mamba", None), ("lfm2", 128), ("roberta decoder", 126)])
def test_positions(name, limit):
    """RoBERTa's table begins at the padding index."""
    found = max_positions(build(name))
    assert (found if limit else found > 10**9) == (limit or True)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bloom", "lfm2", "mamba", "bert decoder", "roberta decoder"])
def test_embeddings_are_those_of_a_sentence_alone(name, tiny_tokenizer, caplog):
    """Whether the cache of the common prefix can be used again or not."""
    model = build(name)
    with caplog.at_level(logging.WARNING):
        vectors = Embedder(model, tiny_tokenizer, EOL).encode(SENTENCES)
    for vector, sentence in zip(vectors, SENTENCES, strict=True):
        ids = torch.tensor([tiny_tokenizer.encode(EOL.template.fill(sentence))])
        expected = decoder(model)(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
        torch.testing.assert_close(vector, expected, rtol=0, atol=1e-4)
    lines = [record.getMessage() for record in caplog.records if "reads every prompt whole" in record.getMessage()]
    assert len(lines) == (name in ("lfm2", "mamba"))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "fitting"),
    [("bloom", [Padded(), PaddedRight()]), ("mamba", [Padded(), PaddedRight()]), ("roberta decoder", [PaddedRight()])],
)
def test_layouts_that_fit_give_the_log_probabilities_of_a_sequence_alone(name, fitting):
    model = build(name)
    for layout in fitting:
        check_layout(model, layout(ROWS, 0))
        logps = completion_logps(model, layout(ROWS, 0))
        for row, found in zip(ROWS, logps, strict=True):
            for completion, logp in zip(row.completion_ids, found, strict=False):
                ids = torch.tensor([row.prompt_ids + completion])
                log_softmax = (
                    model(input_ids=ids, use_cache=False).logits[0, len(row.prompt_ids) - 1 : -1].log_softmax(-1)
                )
                expected = log_softmax.gather(-1, torch.tensor(completion)[:, None]).sum()
                torch.testing.assert_close(logp, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "layout", "key"),
    [
        ("bloom", Packed(1000), "scoring=padded$"),
        ("mamba", Packed(1000), "scoring=padded$"),
        ("lfm2", Packed(1000), "scoring=padded$"),
        ("roberta decoder", Padded(), "scoring=padded_right$"),
    ],
)
def test_a_layout_that_does_not_fit_names_the_next(name, layout, key):
    with pytest.raises(UserError, match=rf"^scoring: .*: set {key}"):
        check_layout(build(name), layout(ROWS, 0))


def test_rows_beyond_the_positions_are_named():
    rows = [ROWS[0], ROWS[1]._replace(id="long", prompt_ids=[5] * 130)]
    with pytest.raises(UserError, match=r"data\.max_length: row long has 134 tokens.* 128 positions.*max_length=128"):
        check_layout(build("lfm2"), Padded()(rows, 0))


class Router(nn.Linear):
    """A linear layer that returns more than one thing."""

    def forward(self, states):
        return super().forward(states), states


class Routed(nn.Module):
    """A layer with a router."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.router = Router(32, 2)

    def forward(self, *args, **kwargs):
        self.router(args[0])
        return self.layer(*args, **kwargs)


def test_a_layer_that_cannot_carry_an_adapter_is_named(tiny_llama):
    tiny_llama.model.layers[1] = Routed(tiny_llama.model.layers[1])
    check_causal(tiny_llama)
    policy = Lora(4, 8, 0.0, ["router", "q_proj"]).attach(tiny_llama)
    with pytest.raises(UserError, match=r"model\.layers\.1\.router .*adapter\.exclude_modules"):
        check_causal(policy)


def test_excluded_modules_carry_no_adapter(tiny_llama):
    policy = Lora(4, 8, 0.0, "all-linear", ["down_proj", "o_proj"]).attach(tiny_llama)
    adapted = {
        name.partition(".lora_A")[0].rpartition(".")[2] for name, _ in policy.named_parameters() if "lora_A" in name
    }
    assert adapted == {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}


def test_the_advice_of_peft_is_whole():
    with pytest.raises(UserError, match=r"out_proj.*adapter\.exclude_modules") as error:
        Lora(4, 8, 0.0, "all-linear").attach(build("mamba"))
    assert "remove" in str(error.value).partition("Please")[2]
    Lora(4, 8, 0.0, "all-linear", ["out_proj"]).attach(build("mamba"))


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_an_adapter_of_another_vocabulary_is_told_whole(tmp_path):
    models = [
        Lfm2ForCausalLM(Lfm2Config(**{**LFM2, "vocab_size": size, "tie_word_embeddings": False})) for size in (400, 410)
    ]
    Lora(4, 8, 0.0, ["embed_tokens", "q_proj"]).attach(models[1]).save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match=r"adapter\.path: .*410.*400"):
        SavedAdapter(str(tmp_path)).attach(models[0])
