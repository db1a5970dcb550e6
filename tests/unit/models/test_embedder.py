"""Sentence embeddings: what the paper reads out, whatever is encoded along with it."""

import copy

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.embedder import Embedder, Readout
from sempa_lightning.models.forward import check_causal
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.prompts.sentence import end_with_full_stop
from sempa_lightning.prompts.template import PromptTemplate

EOL = PromptTemplate('This sentence : "{sentence}" means in one word:"')
SEMPA = Readout(EOL, end_with_full_stop, layer=-1, pooling=last_token)
BARE_MEAN = Readout(PromptTemplate("{sentence}"), str, layer=-1, pooling=mean)
SENTENCES = [
    "A dog runs",
    "Does it run?",
    'He said "no"',
    "The marsh hare is a shy animal that lives among reeds.",
    "No",
]


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_sempa_readout_equals_a_plain_forward_with_left_padding(tiny_llama, tiny_tokenizer):
    """The original: stop, quotes, template, padding on the left, hidden_states[-1][:, -1]."""
    prompts = [
        'This sentence : "A dog runs." means in one word:"',
        'This sentence : "Does it run." means in one word:"',
        'This sentence : "He said \'no\'" means in one word:"',
        'This sentence : "The marsh hare is a shy animal that lives among reeds." means in one word:"',
        'This sentence : "No." means in one word:"',
    ]
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.padding_side = "left"
    inputs = tokenizer(prompts, padding=True, return_tensors="pt", return_token_type_ids=False)
    assert inputs.input_ids[:, -1].unique().numel() == 1
    assert (inputs.attention_mask[:, 0] == 0).any()
    with torch.no_grad():
        states = tiny_llama(**inputs, output_hidden_states=True).hidden_states
    embeddings = Embedder(tiny_llama, tiny_tokenizer, SEMPA).encode(SENTENCES)
    assert embeddings.shape == (5, 32)
    assert embeddings.dtype == torch.float32
    close(embeddings, states[-1][:, -1])
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-2


def test_last_layer_is_taken_after_the_final_norm(tiny_llama, tiny_tokenizer):
    """The language-model head, applied to the embedding, gives the next-token logits of the prompt."""
    ids = tiny_tokenizer.encode(EOL.fill("No."), return_tensors="pt")
    with torch.no_grad():
        logits = tiny_llama(ids).logits[0, -1]
        close(tiny_llama.lm_head(Embedder(tiny_llama, tiny_tokenizer, SEMPA).encode(["No"])[0]), logits)


@pytest.mark.parametrize("layer", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("pooling", [last_token, mean])
def test_layer_and_pooling_of_each_sentence_alone(tiny_llama, tiny_tokenizer, layer, pooling):
    readout = Readout(EOL, str, layer, pooling)
    embeddings = Embedder(tiny_llama, tiny_tokenizer, readout).encode(SENTENCES)
    for sentence, embedding in zip(SENTENCES, embeddings, strict=True):
        ids = tiny_tokenizer.encode(EOL.fill(sentence), return_tensors="pt")
        with torch.no_grad():
            states = tiny_llama(ids, output_hidden_states=True).hidden_states[layer][0]
        close(embedding, states[-1] if pooling is last_token else states.mean(0))


def test_a_chat_readout_ends_with_the_chat_s_own_prompt(tiny_llama, tiny_tokenizer):
    """The template writes its begin token itself: none is added."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "<|endoftext|>{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    readout = Readout(PromptTemplate("<{sentence}>", chat=True), str, -1, last_token)
    ids = tokenizer.encode("<|endoftext|>[<No>]assistant:", add_special_tokens=False, return_tensors="pt")
    assert ids[0, :2].tolist()[0] == 0 != ids[0, 1]
    with torch.no_grad():
        expected = tiny_llama.model(ids).last_hidden_state[:, -1]
    close(Embedder(tiny_llama, tokenizer, readout).encode(["No"]), expected)


@pytest.mark.parametrize("readout", [SEMPA, BARE_MEAN], ids=["last token", "mean"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_embedding_does_not_depend_on_its_batch(tiny_llama, tiny_tokenizer, sentences, readout, architecture):
    model = tiny_llama
    if architecture == "gpt2":
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=256))
    some = sentences[:40]
    embeddings = Embedder(model, tiny_tokenizer, readout, batch_size=40).encode(some)
    for batch_size in (1, 3, 64):
        close(Embedder(model, tiny_tokenizer, readout, batch_size).encode(some), embeddings)
    encode = Embedder(model, tiny_tokenizer, readout, batch_size=7).encode
    close(encode(some[::-1]).flip(0), embeddings)
    close(encode([*some[5:], *sentences[40:60], *some[:5]])[-5:], embeddings[:5])
    close(encode([some[0]])[0], embeddings[0])


SIZE = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
WINDOWED = {
    "mistral": (MistralForCausalLM, MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=4)),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig(
            **SIZE,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
}


@pytest.mark.parametrize("pooling", [last_token, mean])
@pytest.mark.parametrize("architecture", WINDOWED)
def test_a_window_shorter_than_the_shared_beginning(tiny_tokenizer, architecture, pooling):
    """The template's opening is read once; what a window still sees of it does not change."""
    torch.manual_seed(0)
    model_class, config = WINDOWED[architecture]
    model = model_class(copy.deepcopy(config)).eval()
    readout = Readout(EOL, str, -1, pooling)
    embeddings = Embedder(model, tiny_tokenizer, readout).encode(SENTENCES)
    for sentence, embedding in zip(SENTENCES, embeddings, strict=True):
        ids = tiny_tokenizer.encode(EOL.fill(sentence), return_tensors="pt")
        with torch.no_grad():
            states = model.model(ids).last_hidden_state[0]
        close(embedding, states[-1] if pooling is last_token else states.mean(0))


def test_what_all_prompts_begin_with_is_read_once(tiny_llama, tiny_tokenizer):
    seen, embedder = [], Embedder(tiny_llama, tiny_tokenizer, SEMPA, batch_size=2)
    embedder.encode(["A dog runs and runs", "It snows"])  # probes the model
    hook = tiny_llama.model.embed_tokens.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    embedder.encode(["A dog runs", "No", "It rains", "Yes"])
    hook.remove()
    opening = tiny_tokenizer.encode('This sentence : "')
    first, *batches = seen
    assert first.tolist() == [opening]
    prompts = [tiny_tokenizer.encode(EOL.fill(f"{text}.")) for text in ("A dog runs", "It rains", "Yes", "No")]
    longest = [max(map(len, prompts[:2])), max(map(len, prompts[2:]))]
    assert [batch.shape for batch in batches] == [(2, length - len(opening)) for length in longest]


def test_duplicates_are_encoded_once_and_come_back_in_place(tiny_llama, tiny_tokenizer):
    seen = []

    def progress(batches):
        seen.extend(sentence for batch in batches for sentence in batch)
        return batches

    embeddings = Embedder(tiny_llama, tiny_tokenizer, SEMPA, batch_size=2).encode(
        ["No", "A dog runs", "No", "Yes", "No"], progress
    )
    assert sorted(seen) == ["A dog runs", "No", "Yes"]
    assert torch.equal(embeddings[0], embeddings[2])
    assert torch.equal(embeddings[0], embeddings[4])
    close(embeddings[[1, 3]], Embedder(tiny_llama, tiny_tokenizer, SEMPA).encode(["A dog runs", "Yes"]))


class TestTooLongSentences:
    CONTEXT = 64

    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=400,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=self.CONTEXT,
            )
        )

    @staticmethod
    def read_ids(model, tokenizer, readout, sentence):
        """The tokens that the model really gets."""
        check_causal(model)
        seen = []
        hook = model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        Embedder(model, tokenizer, readout).encode([sentence])
        hook.remove()
        (ids,) = seen
        return ids[0].tolist()

    @pytest.mark.parametrize(
        "sentence", ["A dog runs and runs. " * 40, "x" * 5000, "🦔" * 100, "ab" + "é🦔" * 100, "語" * 100]
    )
    def test_the_end_is_cut_and_the_template_stays_whole(self, model, tiny_tokenizer, sentence):
        """The tokens are the first ones of the whole prompt, then those of the text behind the sentence."""
        ids = self.read_ids(model, tiny_tokenizer, SEMPA, sentence)
        whole = tiny_tokenizer.encode(SEMPA.template.fill(SEMPA.preprocess(sentence)))
        assert len(whole) > len(ids) == self.CONTEXT
        after = '" means in one word:"'
        assert tiny_tokenizer.decode(ids).endswith(after)
        behind = len(tiny_tokenizer.encode("." + after, add_special_tokens=False))
        assert ids == whole[: self.CONTEXT - behind] + whole[-behind:]

    def test_a_sentence_that_just_fits_is_whole(self, model, tiny_tokenizer):
        readout = Readout(PromptTemplate("{sentence}"), str, -1, last_token)
        sentence = "x" * (self.CONTEXT - 1)
        assert len(tiny_tokenizer.encode(sentence)) == self.CONTEXT
        assert self.read_ids(model, tiny_tokenizer, readout, sentence) == tiny_tokenizer.encode(sentence)

    def test_a_template_that_fills_the_context_is_refused(self, model, tiny_tokenizer):
        readout = Readout(PromptTemplate("{sentence}" + "x" * 80), str, -1, last_token)
        with pytest.raises(UserError, match=r"no room .* 64 positions: .*readout\.template\.text"):
            Embedder(model, tiny_tokenizer, readout).encode(["A dog runs."])


@pytest.mark.parametrize("root", [True, False])
def test_modes_and_gradients_are_left_as_found(tiny_llama, tiny_tokenizer, root):
    """Also where a frozen part stays in evaluation mode inside a model in training."""
    policy = Lora(4, 8, 0.5, "all-linear").attach(tiny_llama)
    policy.train(root)
    tiny_llama.model.layers[0].train(not root)
    before = [module.training for module in policy.modules()]
    trainable = [parameter.requires_grad for parameter in policy.parameters()]
    embeddings = Embedder(policy, tiny_tokenizer, SEMPA).encode(SENTENCES)
    assert [module.training for module in policy.modules()] == before
    assert len(set(before)) == 2
    assert [parameter.requires_grad for parameter in policy.parameters()] == trainable
    assert not embeddings.requires_grad


def test_modes_are_left_as_found_after_an_error(tiny_llama, tiny_tokenizer):
    def fail(_):
        raise ZeroDivisionError

    tiny_llama.train()
    with pytest.raises(ZeroDivisionError):
        Embedder(tiny_llama, tiny_tokenizer, SEMPA).encode(["No"], fail)
    assert tiny_llama.training


def test_an_adapter_s_dropout_is_off_and_its_weights_are_on(tiny_llama, tiny_tokenizer):
    base = Embedder(tiny_llama, tiny_tokenizer, SEMPA).encode(SENTENCES)
    policy = Lora(4, 8, 0.9, "all-linear").attach(tiny_llama).train()
    embedder = Embedder(policy, tiny_tokenizer, SEMPA)
    close(embedder.encode(SENTENCES), base)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    moved = embedder.encode(SENTENCES)
    assert (moved - base).abs().max() > 0.01
    assert torch.equal(embedder.encode(SENTENCES), moved)
    close(moved, Embedder(policy.merge_and_unload(), tiny_tokenizer, SEMPA).encode(SENTENCES))
