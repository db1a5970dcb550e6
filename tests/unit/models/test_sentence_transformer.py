"""Readouts as files of sentence-transformers: the same vectors as our Embedder, whatever the tokenizer."""

import copy
import json
from functools import partial

import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from sempa_lightning.errors import UserError
from sempa_lightning.models.embedder import Embedder, Readout
from sempa_lightning.models.readout import mean_of_prompts
from sempa_lightning.models.sentence_transformer import save_sentence_transformer, with_readout
from sempa_lightning.models.steering.token_prepending import TokenPrepending
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.pooling.text_mean import text_mean
from sempa_lightning.prompts.sentence import end_with_full_stop
from sempa_lightning.prompts.template import PromptTemplate

SENTENCES = [
    "",
    " ",
    '"',
    "?",
    "Plain",
    " space first",
    'Who said "go"?',
    "Ärger 東京 🙂!",
    "a\nb",
    "long " * 30,
]
PROMPT_EOL = PromptTemplate('This sentence : "{sentence}" means in one word:"')
LLAMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def sentence_piece(sentences):
    """Vocabulary and merges as SentencePiece makes them: `▁` for a space, bytes for unknown letters."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return tokenizer.get_vocab(), [tuple(pair) for pair in merges]


def llama_tokenizer(vocab, merges):
    """As transformers 5 builds it: no normalizer, a space opens the text but not what follows `<s>`."""
    return LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True, pad_token="</s>")


def normalizing_tokenizer(vocab, merges):
    """As Llama 2 ships it: its own normalizer opens every piece of text with a space."""
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def llama(tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=256,
        pad_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def assert_same_vectors(model, tokenizer, readout, folder):
    expected = Embedder(model, tokenizer, readout).encode(SENTENCES)
    save_sentence_transformer(model, tokenizer, readout, folder)
    encoder = SentenceTransformer(str(folder), device="cpu")
    vectors = encoder.encode(SENTENCES, convert_to_tensor=True)
    assert torch.allclose(vectors, expected, atol=1e-5)
    assert not torch.allclose(vectors[0], vectors[4], atol=1e-2)  # vectors tell sentences apart


@pytest.mark.parametrize("make", [llama_tokenizer, normalizing_tokenizer])
@pytest.mark.parametrize(
    "readout",
    [
        Readout(PROMPT_EOL, partial(end_with_full_stop), -1, partial(last_token)),
        Readout(PromptTemplate("{sentence}"), end_with_full_stop, -1, mean),
        Readout(PromptTemplate("{sentence}\n{{ it's }} \"", separator="\t"), str, -1, last_token),
    ],
)
def test_sentence_piece_tokenizers(sentence_piece, make, readout, tmp_path):
    tokenizer = make(*sentence_piece)
    assert tokenizer.encode("a")[0] == 1
    assert_same_vectors(llama(tokenizer), tokenizer, readout, tmp_path)


@pytest.mark.parametrize("system", [None, 'You are "it", aren\'t you?'])
def test_a_prompt_that_is_a_turn_of_a_chat(sentence_piece, system, tmp_path):
    tokenizer = normalizing_tokenizer(*sentence_piece)
    tokenizer.chat_template = LLAMA_CHAT
    template = PromptTemplate(PROMPT_EOL.text, chat=True, system=system)
    readout = Readout(template, end_with_full_stop, -1, last_token)
    assert_same_vectors(llama(tokenizer), tokenizer, readout, tmp_path)


def test_learned_positions_count_from_the_first_token(tiny_tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.padding_side = "left"
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wpe.weight *= 20
    assert_same_vectors(model, tokenizer, Readout(PROMPT_EOL, end_with_full_stop, -1, last_token), tmp_path)
    assert tokenizer.padding_side == "left"


def test_a_tokenizer_that_reads_the_template_otherwise_is_refused(sentence_piece):
    tokenizer = normalizing_tokenizer(*sentence_piece)
    readout = Readout(PromptTemplate("{sentence}"), str, -1, last_token)
    with_readout(tokenizer, readout, 256)
    # In a text, this begin token swallows the spaces behind it.
    tokenizer.add_special_tokens({"bos_token": AddedToken("<s>", rstrip=True, special=True)})
    with pytest.raises(UserError, match="becomes other tokens"):
        with_readout(tokenizer, readout, 256)


def test_the_template_in_words(tiny_tokenizer):
    template = with_readout(tiny_tokenizer, Readout(PROMPT_EOL, end_with_full_stop, -1, last_token), 99)
    text = template.apply_chat_template([{"role": "user", "content": 'Who said "go"?'}], tokenize=False)
    assert text == '<|endoftext|>This sentence : "Who said \'go\'." means in one word:"'
    assert template.model_max_length == 99
    assert tiny_tokenizer.chat_template is None


def test_a_repeated_sentence_is_written_as_often(tiny_tokenizer):
    readout = Readout(PromptTemplate("Again {copy}: {sentence}!"), end_with_full_stop, -1, last_token)
    template = with_readout(tiny_tokenizer, readout, 100)
    ids = template.apply_chat_template([{"role": "user", "content": 'a "b"'}], return_dict=False)
    assert ids == tiny_tokenizer.encode("Again a 'b': a 'b'!")


@pytest.mark.parametrize(
    "readout",
    [
        mean_of_prompts(["<{sentence}>", "{sentence}!"], str, -1, last_token),
        Readout(PromptTemplate("{placeholder}{sentence}"), str, -1, last_token, steering=TokenPrepending(1, 2)),
        Readout(PROMPT_EOL, str, [-1, -2], last_token),
        Readout(PROMPT_EOL, str, -1, text_mean),
    ],
)
def test_what_sentence_transformers_cannot_do_is_refused(tiny_llama, tiny_tokenizer, tmp_path, readout):
    with pytest.raises(UserError, match=r"^sentence-transformers .* readout\.(texts|steering|layer|pooling)"):
        save_sentence_transformer(tiny_llama, tiny_tokenizer, readout, tmp_path / "model")
    assert not (tmp_path / "model").exists()
