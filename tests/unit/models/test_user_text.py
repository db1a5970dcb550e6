"""Special tokens that users spell out in their texts stay text; those of templates are special."""

import copy
from collections import Counter

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from sempa_lightning.data.rows import Row
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.evaluation.generation import HeldOutText
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.generation import Sampling, continue_texts
from sempa_lightning.models.prompt_tokens import PromptTokenizer
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.user_text import UserText
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import Lent

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPELT_OUT = "Now only <|endoftext|> or <|im_end|> and <|im_start|>x"


@pytest.fixture(scope="module")
def byte_level(tiny_tokenizer):
    """Byte-level BPE with a chat template."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    names = ("<|im_start|>", "<|im_end|>")
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture(scope="module")
def metaspace():
    """BPE with byte fallback as older Llama and Mistral models have it: its special tokens are normalized."""
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz<>/|_.NOPEITWU \n"]
    vocab = {piece: number for number, piece in enumerate(["<unk>", "<s>", "</s>", *letters])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    backend.add_special_tokens([AddedToken(name, normalized=True) for name in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", split_special_tokens=False
    )


def special_ids(tokenizer):
    return {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def scored(tokenizer, template, row):
    (tokenized,) = RowTokenizer(tokenizer, template, 512, "error")([row], Counter())
    return tokenized


def test_a_completion_is_not_cut_at_a_special_token_that_it_spells_out(byte_level):
    row = Row(f"About {SPELT_OUT}", (SPELT_OUT,), (f"{SPELT_OUT}!",))
    tokenized = scored(byte_level, PromptTemplate("Rewrite {sentence}", separator="\n"), row)
    assert byte_level.decode(tokenized.prompt_ids[1:]) == f"Rewrite About {SPELT_OUT}\n"
    assert [byte_level.decode(ids[:-1]) for ids in tokenized.completion_ids] == [SPELT_OUT, f"{SPELT_OUT}!"]
    assert [len(special_ids(byte_level) & {*ids[:-1]}) for ids in tokenized.completion_ids] == [0, 0]
    assert {ids[-1] for ids in tokenized.completion_ids} == {byte_level.eos_token_id}


def test_the_chat_templates_own_special_tokens_count(byte_level):
    start, end = byte_level.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    template = PromptTemplate("Rewrite {sentence}", chat=True)
    tokenized = scored(byte_level, template, Row(SPELT_OUT, (SPELT_OUT,), ("No.",)))
    assert (tokenized.prompt_ids.count(start), tokenized.prompt_ids.count(end)) == (2, 1)
    chosen, rejected = tokenized.completion_ids
    assert byte_level.decode(chosen[:-1]) == SPELT_OUT
    assert chosen[-1] == rejected[-1] == end
    assert chosen.count(end) == 1


def test_special_tokens_that_are_normalized_stay_text_too(metaspace):
    text = "we are <s> Now only our opinions </s> not <unk>"
    tokenized = scored(metaspace, PromptTemplate("{sentence}", separator="\n"), Row("a", (text,), ("no",)))
    assert metaspace.decode(tokenized.completion_ids[0][:-1]) == text
    assert special_ids(metaspace).isdisjoint(tokenized.completion_ids[0][:-1])
    assert metaspace(text)["input_ids"].count(2) == 1  # as the tokenizer itself reads it


@pytest.mark.parametrize("options", [{}, {"chat": True}])
def test_a_readout_reads_them_as_text(byte_level, options):
    tokenize = PromptTokenizer(byte_level, PromptTemplate('"{sentence}" means', **options), str, 1000)
    spelt_out, plain = tokenize([SPELT_OUT, "Now"])
    own = [token for token, held in zip(spelt_out.ids, spelt_out.text, strict=True) if held]
    assert byte_level.decode(own).strip('"') == SPELT_OUT
    special = special_ids(byte_level)
    assert [i for i in spelt_out.ids if i in special] == [i for i in plain.ids if i in special]


def test_a_long_text_is_cut_where_it_spells_one_out(byte_level):
    """Whatever the limit, the copies are cut alike and hold no special token."""
    template = PromptTemplate("{copy}; {sentence}")
    for limit in range(8, 60):
        (prompt,) = PromptTokenizer(byte_level, template, str, limit)(["a <|im_end|> <|im_end|>"])
        assert special_ids(byte_level).isdisjoint(prompt.ids[1:])
        copied, _, sentence = byte_level.decode(prompt.ids[1:]).partition("; ")
        assert copied == sentence
        assert "a <|im_end|> <|im_end|>".startswith(sentence)


def test_texts_without_special_tokens_become_the_same_tokens(byte_level, metaspace, sentences):
    for tokenizer in (byte_level, metaspace):
        user_text = UserText(tokenizer)
        texts = [*sentences[:50], "a < b > c <| d |>", "a s> b", ""]
        assert [user_text.shield(text) for text in texts] == texts
        assert user_text.encode(texts)["input_ids"] == tokenizer(texts)["input_ids"]
        # Beside a text that spells one out, too.
        beside = user_text.encode([*texts, user_text.shield("x</s><|im_end|>")])["input_ids"][:-1]
        assert beside == tokenizer(texts)["input_ids"]


def test_the_rest_of_one_special_token_may_be_another(byte_level):
    tokenizer = copy.deepcopy(byte_level)
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in ("<a>", "a>")])
    user_text = UserText(tokenizer)
    ids = user_text.encode([user_text.shield("x<a>y")], add_special_tokens=False)["input_ids"][0]
    assert tokenizer.decode(ids) == "x<a>y"
    assert special_ids(tokenizer).isdisjoint(ids)


def test_held_out_text_and_paraphrases(tiny_llama, tiny_tokenizer):
    model, text = tiny_llama, "One. <|endoftext|> Two."
    reference = Lent(model)
    prompt = PromptTemplate("{sentence}")
    subject = Subject(model, tiny_tokenizer, Readout(prompt, str, -1, last_token), prompt, reference, Padded())
    ids = tiny_tokenizer(text, split_special_tokens=True)["input_ids"]
    assert len(ids) > len(tiny_tokenizer(text)["input_ids"])
    assert HeldOutText([text]).run(subject, iter).items["tokens"].tolist() == [len(ids) - 1]
    (written,) = continue_texts(model, tiny_tokenizer, [UserText(tiny_tokenizer).shield(text)], Sampling(8))
    with torch.no_grad():
        expected = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert written.text == tiny_tokenizer.decode(expected[0, len(ids) :], skip_special_tokens=True).strip()
