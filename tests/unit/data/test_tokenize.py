"""Rows as token ids: what is scored, what is left out, and why."""

import copy
import json
from collections import Counter

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sempa_lightning.assets import local_path
from sempa_lightning.data.rows import Row
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.errors import UserError
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.scratch import train_tokenizer
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate

ROW = Row("A dog runs.", ("Dogs run.", "The dog is running."), ("A cat sleeps.", "No.", "Dogs sleep at night."))
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)


def tokenize(tokenizer, template, rows, max_length=256, unfit="error"):
    dropped = Counter()
    return list(RowTokenizer(tokenizer, template, max_length, unfit)(rows, dropped)), dropped


def chat_tokenizer(tiny_tokenizer, chat_template, special):
    """A copy with a chat template and special tokens without a role, as Llama 3's <|eot_id|>."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.chat_template = chat_template
    return tokenizer


def test_plain_rows(tiny_tokenizer):
    """Begin token, prompt, separator; completion, end token. This tokenizer's begin and end token is 0."""
    template = PromptTemplate('Rewrite "{sentence}"', separator="\n")
    (row,), dropped = tokenize(tiny_tokenizer, template, [ROW])
    assert row.id == ROW.id
    assert row.num_chosen == 2
    assert row.prompt_ids[0] == 0
    assert tiny_tokenizer.decode(row.prompt_ids[1:]) == 'Rewrite "A dog runs."\n'
    texts = [tiny_tokenizer.decode(ids[:-1]) for ids in row.completion_ids]
    assert texts == ["Dogs run.", "The dog is running.", "A cat sleeps.", "No.", "Dogs sleep at night."]
    assert [ids.count(0) for ids in row.completion_ids] == [1] * 5
    assert [ids[-1] for ids in row.completion_ids] == [0] * 5
    assert not dropped


def test_rows_that_ship_with_the_package_come_back_as_their_text(tiny_tokenizer):
    lines = local_path("pkg://sempa_lightning/assets/demo/train.jsonl").read_text().splitlines()[:200]
    records = [json.loads(line) for line in lines]
    rows = [Row(r["anchor"], tuple(r["chosen"]), tuple(r["rejected"])) for r in records]
    tokenized, dropped = tokenize(tiny_tokenizer, PromptTemplate('"{sentence}" means', separator="\n"), rows, 10**6)
    assert len(tokenized) == len(rows) == 200
    assert not dropped
    for text, row in zip(rows, tokenized, strict=True):
        for completion, ids in zip((*text.chosen, *text.rejected), row.completion_ids, strict=True):
            joined = tiny_tokenizer.decode([*row.prompt_ids[1:], *ids[:-1]])
            assert joined == f'"{text.anchor}" means\n{completion}'


@pytest.mark.parametrize("named", [True, False], ids=["named", "without a role"])
@pytest.mark.parametrize("is_eos", [True, False], ids=["eos", "not eos"])
def test_chat_ends_with_the_end_of_the_turn_and_nothing_after_it(tiny_tokenizer, named, is_eos):
    """ChatML writes a line break after <|im_end|>: it is not scored, and no end-of-text token is added."""
    tokenizer = chat_tokenizer(tiny_tokenizer, CHATML, ["<|im_start|>", "<|im_end|>"])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    if named:
        tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    if is_eos:
        tokenizer.eos_token = "<|im_end|>"
    assert (end in tokenizer.all_special_ids) == (named or is_eos)

    (row,), _ = tokenize(tokenizer, PromptTemplate("{sentence}", chat=True, system="Help"), [ROW])
    prompt = "<|im_start|>system\nHelp<|im_end|>\n<|im_start|>user\nA dog runs.<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(row.prompt_ids) == prompt
    assert [ids[-1] for ids in row.completion_ids] == [end] * 5
    assert [ids.count(end) for ids in row.completion_ids] == [1] * 5
    assert [tokenizer.decode(ids) for ids in row.completion_ids] == [
        f"{text}<|im_end|>" for text in (*ROW.chosen, *ROW.rejected)
    ]


def test_chat_with_two_end_tokens_scores_the_first(tiny_tokenizer):
    """Phi 3 closes the turn with <|end|> and the conversation with <|endoftext|>."""
    tokenizer = chat_tokenizer(tiny_tokenizer, PHI3, ["<|user|>", "<|assistant|>", "<|end|>"])
    (row,), _ = tokenize(tokenizer, PromptTemplate("{sentence}", chat=True), [ROW])
    assert tokenizer.decode(row.prompt_ids) == "<|user|>\nA dog runs.<|end|>\n<|assistant|>\n"
    assert tokenizer.decode(row.completion_ids[0]) == "Dogs run.<|end|>"


def test_chat_without_an_end_token_gets_the_end_of_text(tiny_tokenizer):
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}{% if add_generation_prompt %}"
    tokenizer = chat_tokenizer(tiny_tokenizer, template + "assistant: {% endif %}", [])
    row = Row("A dog runs.\n", ("(Dogs run.",), ("(Cats sleep.",))
    (tokenized,), _ = tokenize(tokenizer, PromptTemplate("{sentence}", chat=True), [row])
    assert tokenizer.decode(tokenized.prompt_ids) == "user: A dog runs.\nassistant: "
    assert tokenizer.decode(tokenized.completion_ids[0]) == "(Dogs run.<|endoftext|>"


def test_an_unknown_word_does_not_end_a_completion():
    vocabulary = {"<unk>": 0, "</s>": 1, "a": 2, "dog": 3, "runs": 4}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    row = Row("a dog", ("a zebra runs",), ("runs",))
    (tokenized,), _ = tokenize(tokenizer, PromptTemplate("{sentence}", separator=" "), [row])
    assert tokenized.prompt_ids == [2, 3]
    assert tokenized.completion_ids == [[2, 0, 4, 1], [4, 1]]


@pytest.fixture(scope="module")
def merging_tokenizer():
    """Knows "cat" as one token, so that "ca" + "t" are joined differently as text and as tokens."""
    tokenizer = train_tokenizer(["cat cat cat"] * 20, 400)
    assert tokenizer.encode("the cat", add_special_tokens=False)[-1] == tokenizer.convert_tokens_to_ids("Ġcat")
    return tokenizer


MERGING = Row("the ca", ("s went",), ("ts sat",))
FITTING = Row("the dog", ("s went",), ("ts sat",))


def test_merge_at_the_boundary_names_the_row(merging_tokenizer):
    with pytest.raises(UserError) as error:
        tokenize(merging_tokenizer, PromptTemplate("{sentence}"), [FITTING, MERGING])
    assert MERGING.id in str(error.value)
    assert "'the ca'" in str(error.value)
    assert "merge" in str(error.value)
    assert "data.unfit=drop" in str(error.value)


def test_merge_at_the_boundary_drops_and_counts_the_row(merging_tokenizer):
    rows, dropped = tokenize(merging_tokenizer, PromptTemplate("{sentence}"), [MERGING, FITTING, MERGING], unfit="drop")
    assert [row.id for row in rows] == [FITTING.id]
    assert list(dropped.values()) == [2]
    assert "merge" in next(iter(dropped))


def test_a_separator_that_tokens_do_not_cross_keeps_the_row(merging_tokenizer):
    rows, dropped = tokenize(merging_tokenizer, PromptTemplate("{sentence}", separator="\n"), [MERGING])
    assert len(rows) == 1
    assert not dropped


def test_length_limit_is_that_of_the_longest_candidate(tiny_tokenizer):
    template = PromptTemplate("{sentence}", separator="\n")
    (row,), _ = tokenize(tiny_tokenizer, template, [ROW])
    longest = len(row.prompt_ids) + max(map(len, row.completion_ids))

    (kept,), dropped = tokenize(tiny_tokenizer, template, [ROW], max_length=longest)
    assert kept == row
    assert not dropped
    rows, dropped = tokenize(tiny_tokenizer, template, [ROW, ROW], max_length=longest - 1, unfit="drop")
    assert rows == []
    assert dropped == {f"longer than {longest - 1} tokens": 2}
    with pytest.raises(UserError, match=rf"{ROW.id}.*longer than {longest - 1} tokens; raise data\.max_length"):
        tokenize(tiny_tokenizer, template, [ROW], max_length=longest - 1)


def test_a_tokenizer_without_an_end_token_is_refused(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end token"):
        RowTokenizer(tokenizer, PromptTemplate("{sentence}"), 256, "error")


def test_sentences_for_a_readout(tiny_tokenizer):
    """Anchor and candidates in the readout's prompt, each with a mask of its own tokens; none without a readout."""
    template = PromptTemplate('Rewrite "{sentence}"', separator="\n")
    readout = Readout(PromptTemplate('Word for "{sentence}":"'), str.upper, -1, last_token)
    (row,) = RowTokenizer(tiny_tokenizer, template, 256, "error", readout)([ROW], Counter())
    texts = [text.upper() for text in (ROW.anchor, *ROW.chosen, *ROW.rejected)]
    assert [tiny_tokenizer.decode(ids[1:]) for ids in row.sentence_ids] == [f'Word for "{text}":"' for text in texts]
    for ids, mask, text in zip(row.sentence_ids, row.text_masks, texts, strict=True):
        assert text in tiny_tokenizer.decode([token for token, own in zip(ids, mask, strict=True) if own])
    (bare,), _ = tokenize(tiny_tokenizer, template, [ROW])
    assert bare == row._replace(sentence_ids=[], text_masks=[])


def test_a_sentence_too_long_for_its_readout_is_left_out(tiny_tokenizer):
    readout = Readout(PromptTemplate('Word for "{sentence}"' + 99 * "!"), str, -1, last_token)
    tokenizer = RowTokenizer(tiny_tokenizer, PromptTemplate("{sentence} "), 64, "drop", readout)
    dropped = Counter()
    assert list(tokenizer([ROW], dropped)) == []
    assert dropped == {"longer than 64 tokens": 1}


def test_rows_beyond_the_model_s_positions_are_unfit(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.model_max_length = 30
    long = Row("A dog runs.", ("Dogs run and run and run and run and run. " * 3,), ("A cat sleeps.",))
    template = PromptTemplate("{sentence}", separator="\n")
    rows, dropped = tokenize(tokenizer, template, [long, ROW], max_length=256, unfit="drop")
    assert [row.id for row in rows] == [ROW.id]
    assert dropped == {"longer than 30 tokens that the model has positions for": 1}
    with pytest.raises(UserError, match="model with more positions"):
        tokenize(tokenizer, template, [long], max_length=256)


def test_a_chat_template_that_begins_replies_otherwise_is_named(merging_tokenizer):
    """The prompt ends with what merges with the beginning of a reply, as with an empty thought."""
    merging_tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}the cat{% endif %}{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}the ca{% if enable_thinking == false %}t{% endif %}{% endif %}"
    )
    with pytest.raises(UserError, match=r"ends a prompt with '.*the ca'.*template_arguments"):
        tokenize(merging_tokenizer, PromptTemplate("{sentence}", chat=True), [ROW])
    template = PromptTemplate("{sentence}", chat=True, template_arguments={"enable_thinking": False})
    rows, _ = tokenize(merging_tokenizer, template, [ROW])
    assert merging_tokenizer.decode(rows[0].completion_ids[0][:-1]) == "Dogs run."
