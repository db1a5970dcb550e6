from sempa_lightning.models.causal_lm import load_causal_lm
from sempa_lightning.models.prompt_parts import PARTS, parts_of
from sempa_lightning.models.prompt_tokens import PromptTokenizer
from sempa_lightning.prompts.template import PromptTemplate


def words(tokenizer, template, sentence, limit=512):
    """The prompt's tokens, by part."""
    (prompt,) = PromptTokenizer(tokenizer, template, str, limit)([sentence])
    found = dict.fromkeys(PARTS, "")
    for token, part in zip(prompt.ids, parts_of(prompt), strict=True):
        found[PARTS[part]] += tokenizer.decode([token])
    return found


def test_parts_of_the_paper_s_prompt():
    """nano's vocabulary joins quotes and stops: `."` holds the sentence's stop, `:"` is the last token."""
    tokenizer = load_causal_lm("pkg://sempa_lightning/assets/nano").tokenizer
    eol = PromptTemplate('This sentence : "{sentence}" means in one word:"')
    assert words(tokenizer, eol, "A man is driving a car.") == {
        "bos": "<|endoftext|>",
        "prefix": 'This sentence : "',
        "text": 'A man is driving a car."',
        "suffix": " means in one word",
        "self": ':"',
    }


def test_a_bare_sentence_has_only_text(tiny_tokenizer):
    found = words(tiny_tokenizer, PromptTemplate("{sentence}"), "A dog runs")
    assert (found["prefix"], found["suffix"]) == ("", "")
    assert found["text"] + found["self"] == "A dog runs"


def test_a_text_that_is_cut_keeps_what_stands_around_it(tiny_tokenizer):
    template = PromptTemplate("Cluster: <{sentence}> now")
    whole, cut = (words(tiny_tokenizer, template, "a dog " * 60, limit) for limit in (512, 60))
    assert len(cut.pop("text")) < len(whole.pop("text"))
    assert cut == whole
