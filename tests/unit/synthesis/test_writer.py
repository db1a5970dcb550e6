"""How prompts reach the model: as turns of a chat where there is a template for it."""

import copy

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.generation import Sampling, continue_texts
from sempa_lightning.models.readout import Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.synthesis.plan import Plan
from sempa_lightning.synthesis.writer import TOO_LONG, Writer, as_asked, unquoted

PROMPTS = {"say": PromptTemplate("Say {sentence}", system="Be brief."), "shout": PromptTemplate("Shout {sentence}")}
SAMPLING = Sampling(8, 1.0)


@pytest.fixture
def chatty(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return tokenizer


def written(model, tokenizer, prompts, sentences):
    encoder = Embedder(model, tokenizer, Readout(PromptTemplate("{sentence}"), str, -1, last_token))
    return Writer(model, tokenizer, encoder, Plan(prompts, None, 1, 0), SAMPLING, 3)(sentences, lambda _: None)


def test_a_chat_template_is_used_where_there_is_one(tiny_tokenizer, chatty):
    assert [prompt.chat for prompt in as_asked(PROMPTS, tiny_tokenizer, None).values()] == [False, False]
    assert [prompt.chat for prompt in as_asked(PROMPTS, chatty, None).values()] == [True, True]
    assert [prompt.chat for prompt in as_asked(PROMPTS, chatty, False).values()] == [False, False]
    asked = as_asked(PROMPTS, chatty, True)["say"].prompt(chatty, "it")
    assert asked == "<|endoftext|><system>Be brief.<user>Say it<assistant>"
    with pytest.raises(UserError, match="no chat template"):
        as_asked(PROMPTS, tiny_tokenizer, True)


@pytest.mark.parametrize("chat", [True, False])
def test_outputs_continue_the_prompts(tiny_llama, chatty, sentences, chat):
    """With one begin token, whoever writes it."""
    prompts = as_asked(PROMPTS, chatty, chat)
    drafts = written(tiny_llama, chatty, prompts, sentences[:4])
    requests = Plan(prompts, None, 1, 0).requests(sentences[:4])
    assert [(draft.anchor, draft.prompt) for draft in drafts] == [(one.anchor, one.prompt) for one in requests]
    for draft, request in zip(drafts, requests, strict=True):
        text = prompts[request.prompt].prompt(chatty, request.anchor).removeprefix(chatty.bos_token)
        ids = chatty(text)["input_ids"]
        assert ids.count(chatty.bos_token_id) == 1
        (expected,) = continue_texts(tiny_llama, chatty, [text], SAMPLING, seeds=[request.seed])
        assert (draft.text, draft.ended) == expected


def test_a_prompt_that_leaves_no_room_is_not_asked(tiny_llama, tiny_tokenizer):
    """Of 256 positions 8 are for the output: a prompt of 248 tokens is asked, one of 249 is not."""
    prompts = {"say": PromptTemplate("{sentence}")}
    texts = ["a " * number for number in range(230, 270)]
    lengths = [len(tiny_tokenizer(text)["input_ids"]) for text in texts]
    assert {248, 249} <= set(lengths)
    drafts = written(tiny_llama, tiny_tokenizer, prompts, texts)
    assert [draft.reason for draft in drafts] == [TOO_LONG if length > 248 else None for length in lengths]
    assert all(draft.text == "" and draft.cosine == 0 for draft in drafts if draft.reason)


def test_nothing_can_be_asked(tiny_llama, tiny_tokenizer):
    (draft,) = written(tiny_llama, tiny_tokenizer, {"say": PromptTemplate("{sentence}")}, ["a " * 300])
    assert draft.reason == TOO_LONG


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('"The bridge is shut."', "The bridge is shut."),
        ("' The bridge is shut. '", "The bridge is shut."),
        ("“The bridge is shut.”", "The bridge is shut."),
        ("\u2018It\u2019s the bridge\u2019s end.\u2019", "It\u2019s the bridge\u2019s end."),
        ("'It's the bridge's end.'", "It's the bridge's end."),
        ('"Shut" means "closed"', '"Shut" means "closed"'),
        ("'Shut', not 'open'", "'Shut', not 'open'"),
        ("“Shut” and “closed”", "“Shut” and “closed”"),
        ('The bridge is "shut"', 'The bridge is "shut"'),
        ("\"mixed'", "\"mixed'"),
        ('"', '"'),
        ('""', ""),
        ("", ""),
    ],
)
def test_quotation_marks_around_the_whole_are_no_part_of_it(text, bare):
    assert unquoted(text) == bare
