"""Prompt templates: the slot, and conversations as the models' own templates write them."""

import copy
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sempa_lightning.errors import UserError
from sempa_lightning.prompts.template import PromptTemplate

CONF = Path(__file__).parents[3] / "conf"
PARAPHRASE = 'Keep the same meaning of this sentence: "{sentence}", while making some changes.'
FILLED = 'Keep the same meaning of this sentence: "A dog runs.", while making some changes.'

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tokenizer(tiny_tokenizer):
    return copy.deepcopy(tiny_tokenizer)


@pytest.mark.parametrize("text", ["", "no slot", "{ sentence }", "{sentence} and {sentence}", "{0}"])
def test_text_must_hold_the_slot_once(text):
    with pytest.raises(UserError, match="exactly once") as error:
        PromptTemplate(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("sentence", ["A dog runs.", "{sentence}", "{0} {", "100% \\n \\1 $x", "", 'a "b"\n'])
def test_fill_takes_the_sentence_as_it_is(sentence):
    template = PromptTemplate("<{sentence}> {other} %s")
    assert template.fill(sentence) == "<" + sentence + "> {other} %s"


def test_plain_prompt_and_completion_are_parted_by_the_separator(tokenizer):
    template = PromptTemplate(PARAPHRASE, system="unused", separator="\n")
    assert template.prompt(tokenizer, "A dog runs.") == FILLED + "\n"
    assert template.dialogue(tokenizer, "A dog runs.", "Dogs run.") == FILLED + "\nDogs run."


def test_chat_as_the_tokenizer_s_template_writes_it(tokenizer):
    tokenizer.chat_template = CHATML
    template = PromptTemplate(PARAPHRASE, chat=True, system="Help.", separator="unused")
    prompt = f"<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\n{FILLED}<|im_end|>\n<|im_start|>assistant\n"
    assert template.prompt(tokenizer, "A dog runs.") == prompt
    assert template.dialogue(tokenizer, "A dog runs.", "Dogs run.") == prompt + "Dogs run.<|im_end|>\n"


@pytest.mark.parametrize(
    ("model", "bos", "eos", "prompt", "completion"),
    [
        (
            "llama2",
            "<s>",
            "</s>",
            f"<s>[INST] <<SYS>>\nYou are a helpful assistant\n<</SYS>>\n\n{FILLED} [/INST]",
            "Dogs run.</s>",
        ),
        (
            "llama3",
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|begin_of_text|>"
            "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant<|eot_id|>"
            f"<|start_header_id|>user<|end_header_id|>\n\n{FILLED}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "Dogs run.<|eot_id|>",
        ),
    ],
)
def test_the_paper_s_backbones_are_asked_as_in_its_run(tokenizer, model, bos, eos, prompt, completion):
    tokenizer.bos_token, tokenizer.eos_token = bos, eos
    tokenizer.chat_template = OmegaConf.load(CONF / "model" / f"{model}.yaml").chat_template
    template = PromptTemplate(PARAPHRASE, chat=True, system="You are a helpful assistant")
    assert template.prompt(tokenizer, "A dog runs.") == prompt
    assert template.dialogue(tokenizer, "A dog runs.", "Dogs run.") == prompt + completion


def test_chat_without_a_system_turn(tokenizer):
    tokenizer.chat_template = CHATML
    template = PromptTemplate("{sentence}", chat=True)
    assert template.prompt(tokenizer, "Hi") == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_tokenizer_without_chat_template_is_refused(tokenizer):
    assert tokenizer.chat_template is None
    with pytest.raises(UserError, match=r"no chat template.*prompt\.chat=false"):
        PromptTemplate("{sentence}", chat=True).prompt(tokenizer, "Hi")


def test_a_chat_template_that_does_not_continue_its_prompt_is_refused(tokenizer):
    """Some templates open the assistant's turn in another way when they ask for it than when they show it."""
    tokenizer.chat_template = CHATML.replace(
        "<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}"
    )
    template = PromptTemplate("{sentence}", chat=True)
    assert template.prompt(tokenizer, "Hi").endswith("<think>\n")
    with pytest.raises(UserError, match="does not continue its own prompt"):
        template.dialogue(tokenizer, "Hi", "Hello")
