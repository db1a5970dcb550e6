"""Why an output is no paraphrase: small checks, each under the name by which it is counted.

A check is any function of a `Draft` that says whether it is to be rejected.
"""

import re
from collections import Counter

from sempa_lightning.data.flaw import flaw
from sempa_lightning.synthesis.draft import Draft
from sempa_lightning.synthesis.language import changes_language

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation.

    Example:
        >>> words("It's 5 o'clock!")
        ['it', 's', '5', 'o', 'clock']
    """
    return _WORD.findall(text.casefold())


def empty(draft: Draft) -> bool:
    """Nothing is written, or no word."""
    return not words(draft.text)


def garbled(draft: Draft) -> bool:
    """It holds bytes that are no text, or training would leave it out (see `data.clean.flaw`)."""
    return "\ufffd" in draft.text or flaw(draft.text) is not None


def unfinished(draft: Draft) -> bool:
    """The model has not come to its end: the text breaks off."""
    return not draft.ended


def copied(draft: Draft, *, overlap: float) -> bool:
    """The words are those of the sentence, or nearly, in whatever order.

    Args:
        draft: The output.
        overlap: Words that both have, over words that either has, each as often as it is there (multiset Jaccard
            index); from here on it is a copy, 0 to 1.
    """
    source, text = Counter(words(draft.anchor)), Counter(words(draft.text))
    return (source & text).total() >= overlap * (source | text).total()


def foreign(draft: Draft) -> bool:
    """It is in another language than the sentence, as far as can be told (see `changes_language`)."""
    return changes_language(draft.anchor, draft.text)


def wrong_length(draft: Draft, *, low: float, high: float) -> bool:
    """It has fewer than `low` or more than `high` times as many characters as the sentence."""
    return not low * len(draft.anchor) <= len(draft.text) <= high * len(draft.anchor)


def wrong_similarity(draft: Draft, *, low: float, high: float) -> bool:
    """Its cosine with the sentence is below `low` or above `high`."""
    return not low <= draft.cosine <= high
