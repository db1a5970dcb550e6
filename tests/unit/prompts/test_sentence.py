"""The pre-processing of sentences: the original's steps, in its order."""

from itertools import product

import pytest

from sempa_lightning.prompts.sentence import end_with_full_stop


def original(sentence):
    """Step by step as in SemPA's evaluation: append the stop, then replace quotes, then the question mark."""
    if len(sentence) > 0 and sentence[-1] not in (".", "?", '"', "'"):
        sentence = sentence + "."
    sentence = "".join("'" if character == '"' else character for character in sentence)
    if len(sentence) > 0 and sentence[-1] == "?":
        sentence = sentence[: len(sentence) - 1] + "."
    return sentence


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("A dog runs", "A dog runs."),
        ("A dog runs.", "A dog runs."),
        ("Does it run?", "Does it run."),
        ("It runs!", "It runs!."),
        ("It runs. ", "It runs. ."),
        ('He said "run"', "He said 'run'"),
        ('He said "run?"', "He said 'run?'"),
        ('Who said "run"?', "Who said 'run'."),
        ("the dogs'", "the dogs'"),
        ("Why??", "Why?."),
        ("", ""),
    ],
)
def test_by_hand(sentence, expected):
    assert original(sentence) == expected
    assert end_with_full_stop(sentence) == expected


def test_all_short_texts():
    texts = ["".join(characters) for length in range(5) for characters in product("a .?!\"'", repeat=length)]
    assert len(texts) == 1 + 7 + 7**2 + 7**3 + 7**4
    assert [end_with_full_stop(text) for text in texts] == [original(text) for text in texts]
