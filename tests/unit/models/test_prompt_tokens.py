"""Prompts as tokens: which are the sentence's, where the placeholder stands, what is cut off."""

import copy

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sempa_lightning.errors import UserError
from sempa_lightning.models.prompt_tokens import PromptTokenizer, held_by
from sempa_lightning.prompts.sentence import end_with_full_stop
from sempa_lightning.prompts.template import PromptTemplate

EOL = 'This sentence : "{sentence}" means in one word:"'
ECHO = "Rewrite: {copy}. Again: {sentence}"


@pytest.fixture(scope="module")
def merging_tokenizer():
    """Byte-level BPE of letters, with merges across quotes: `"A` and `. "` written together."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [('"', "A"), (".", '"'), ("Ġ", "Ġ"), ("Ġ", "r")]
    vocab = {token: index for index, token in enumerate([*letters, *map("".join, merges), "<s>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")


def prompt(tokenizer, text, sentence, limit=1000, preprocess=str, **options):
    (tokens,) = PromptTokenizer(tokenizer, PromptTemplate(text, **options), preprocess, limit)([sentence])
    return tokens


def texts(tokenizer, tokens):
    """Tokens of the sentence, as the vocabulary writes them."""
    return [name for name, own in zip(tokenizer.convert_ids_to_tokens(tokens.ids), tokens.text, strict=True) if own]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Go", ["G", "o"]),
        ("A", ['"A']),
        ("Go.", ["G", "o", '."']),
        ("  Go", ["ĠĠ", "G", "o"]),
        ("a  b", ["a", "ĠĠ", "b"]),
        ("a  ", ["a", "ĠĠ"]),
        (" ", ["Ġ"]),
        ("é", ["Ã", "©"]),
        ("🦔", ["ð", "Ł", "¦", "Ķ"]),
    ],
)
def test_a_token_with_a_character_of_the_sentence_is_its_own(merging_tokenizer, sentence, expected):
    tokens = prompt(merging_tokenizer, '<"{sentence}">', sentence)
    assert texts(merging_tokenizer, tokens) == expected
    assert not tokens.truncated


def test_spans_that_byte_level_trimming_has_shortened():
    """`a`, two spaces, `b` and a quote: the spaces are reported as an empty span behind them."""
    spans = [(0, 0), (0, 1), (1, 2), (4, 4), (4, 5), (5, 6)]
    assert held_by(spans, 1, 5) == [False, False, True, True, True, False]
    assert held_by(spans, 2, 4) == [False, False, False, True, False, False]
    assert held_by(spans, 3, 3) == [False] * 6


def test_begin_token_and_prompt_are_not_the_sentence(tiny_tokenizer):
    tokens = prompt(tiny_tokenizer, EOL, "Dogs run", preprocess=end_with_full_stop)
    before, own = (tiny_tokenizer.encode(part, add_special_tokens=False) for part in ('This sentence : "', "Dogs run."))
    assert tokens.ids == tiny_tokenizer.encode('This sentence : "Dogs run." means in one word:"')
    assert tokens.text == [1 + len(before) <= place < 1 + len(before) + len(own) for place in range(len(tokens.ids))]


def test_only_the_last_copy_is_the_sentence(merging_tokenizer):
    tokens = prompt(merging_tokenizer, ECHO, "go")
    assert tokens.ids == merging_tokenizer.encode("Rewrite: go. Again: go")
    assert tokens.text == [False] * (len(tokens.ids) - 2) + [True] * 2


@pytest.mark.parametrize("sentence", ["plain", "{copy}", "{sentence} {placeholder}", "\ue000\uf8ff\ue000"])
def test_whatever_the_sentence_holds_it_is_found(merging_tokenizer, sentence):
    tokens = prompt(merging_tokenizer, ECHO, sentence)
    assert merging_tokenizer.decode([i for i, own in zip(tokens.ids, tokens.text, strict=True) if own]) == sentence


def test_a_sentence_without_tokens_is_stood_for_by_the_prompt(merging_tokenizer):
    assert all(prompt(merging_tokenizer, EOL, "").text)
    bare = prompt(merging_tokenizer, "{sentence}", "")
    assert (bare.ids, bare.text) == ([merging_tokenizer.bos_token_id], [True])


def test_in_a_chat_the_sentence_is_found_even_where_it_is_trimmed(merging_tokenizer):
    tokenizer = copy.deepcopy(merging_tokenizer)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] | trim }}]{% endfor %}"
    tokens = prompt(tokenizer, "{sentence}", "  go ", chat=True)
    assert tokenizer.decode(tokens.ids) == "[go]"
    assert texts(tokenizer, tokens) == ["g", "o"]
    tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] | length }} {{ m['content'] }}]{% endfor %}"
    with pytest.raises(UserError, match=r"changes the text around 'go'"):
        prompt(tokenizer, "say {sentence}", "go", chat=True)


def test_the_placeholder_stands_before_the_token_behind_its_mark(merging_tokenizer):
    tokens = prompt(merging_tokenizer, 'It{placeholder} "{sentence}"', "go")
    names = merging_tokenizer.convert_ids_to_tokens(tokens.ids)
    assert (names[:2], names[3:]) == (["I", "t"], ["Ġ", '"', "g", "o", '"'])
    assert tokens.placeholder == 2
    assert texts(merging_tokenizer, tokens) == ["g", "o"]


@pytest.mark.parametrize(
    "text", ["{sentence} {copy}", "{placeholder}{placeholder}{sentence}", "{sentence}{placeholder}"]
)
def test_slots_behind_the_sentence_are_refused(text):
    with pytest.raises(UserError, match=r"stand before \{sentence\}"):
        PromptTemplate(text)


class TestTooLong:
    def test_the_sentence_s_end_is_cut_in_tokens_and_mask(self, merging_tokenizer):
        whole = prompt(merging_tokenizer, '<"{sentence}">', "abcdefghij")
        cut = prompt(merging_tokenizer, '<"{sentence}">', "abcdefghij", limit=10)
        assert merging_tokenizer.decode(cut.ids) == '<"abcdef">'
        assert cut.text == [False, False, *[True] * 6, False, False]
        assert (cut.truncated, whole.truncated) == (True, False)

    def test_every_copy_is_cut_alike(self, merging_tokenizer):
        cut = prompt(merging_tokenizer, ECHO, "abcdefghij", limit=28)
        assert merging_tokenizer.decode(cut.ids) == "Rewrite: abcde. Again: abcde"
        assert cut.text == [False] * 23 + [True] * 5
        assert cut.truncated

    def test_a_template_without_room_is_refused(self, merging_tokenizer):
        with pytest.raises(UserError, match=r"no room .* 18 positions"):
            prompt(merging_tokenizer, ECHO, "abcdefghij", limit=18)
