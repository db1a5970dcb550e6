"""Chat templates are programs of strangers: what they refuse, and what they do wrong, ends with one line."""

import copy

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.prompts import chat
from sempa_lightning.prompts.template import PromptTemplate

TURNS = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
)
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}" + TURNS
)
BAD = {
    "raises": "{{ raise_exception('Not today') }}",
    "syntax": "{% for %}",
    "recurses": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "forbidden attribute": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "wrong type": "{{ messages + 1 }}",
    "range": "{% for i in range(10 ** 9) %}a{% endfor %}",
    "much text": "{{ messages[0]['content'] * 1000000 }}",
    "text without end": (
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}x"
    ),
}
PROMPT = PromptTemplate("Say: {sentence}", chat=True)
THINKING = (
    "{% for m in messages %}<{{ m['role'] }}>"
    "{% if m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{{ '\n' }}"
    "{% if enable_thinking == false %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}"
)


@pytest.fixture
def tokenizer(tiny_tokenizer):
    return copy.deepcopy(tiny_tokenizer)


@pytest.mark.parametrize("template", [NO_SYSTEM, ALTERNATING], ids=["no system", "alternation"])
def test_a_refused_system_turn_names_its_key(tokenizer, template):
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=r"^prompt\.system: .*set prompt\.system=null"):
        PromptTemplate("Say: {sentence}", chat=True, system="Help").prompt(tokenizer, "A dog")
    assert PROMPT.prompt(tokenizer, "A dog") == "<user>Say: A dog"


@pytest.mark.parametrize("name", BAD)
def test_a_template_that_fails_is_one_line(tokenizer, name):
    tokenizer.chat_template = BAD[name]
    with pytest.raises(UserError, match=r"^model\.chat_template: .*prompt\.chat=false") as error:
        PROMPT.prompt(tokenizer, "A dog")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_template_that_does_not_end_is_interrupted(tokenizer, monkeypatch):
    monkeypatch.setattr(chat, "_SECONDS", 0.3)
    tokenizer.chat_template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(UserError, match=r"not rendered after 0\.3 seconds"):
        PROMPT.prompt(tokenizer, "A dog")


def test_a_long_sentence_is_no_fault_of_the_template(tokenizer):
    tokenizer.chat_template = TURNS
    assert len(PROMPT.prompt(tokenizer, "A dog. " * 100_000)) > 700_000


def test_arguments_reach_the_template(tokenizer):
    tokenizer.chat_template = THINKING
    quiet = PromptTemplate("{sentence}", chat=True, template_arguments={"enable_thinking": False})
    assert quiet.prompt(tokenizer, "A dog").endswith("<assistant><think>\n\n</think>\n\n")
    assert quiet.dialogue(tokenizer, "A dog", "Dogs").endswith("</think>\n\nDogs")
    assert repr(quiet) != repr(PromptTemplate("{sentence}", chat=True))
