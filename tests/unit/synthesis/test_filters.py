"""Each filter on outputs that it rejects and on their nearest that it does not, worked by hand."""

import pytest

from sempa_lightning.synthesis import filters
from sempa_lightning.synthesis.language import FUNCTION_WORDS, changes_language

ANCHOR = "The old bridge was closed after the flood in spring."  # 10 words, 52 characters


@pytest.mark.parametrize(("text", "rejected"), [("", True), ("  \n", True), ("...!", True), ("No", False)])
def test_empty(draft, text, rejected):
    assert filters.empty(draft(text)) == rejected


@pytest.mark.parametrize(
    ("text", "rejected"), [("a\x07b", True), ("caf\ufffd", True), ("nan", True), ("two\nlines, café", False)]
)
def test_garbled(draft, text, rejected):
    assert filters.garbled(draft(text)) == rejected


def test_unfinished(draft):
    assert filters.unfinished(draft(ended=False))
    assert not filters.unfinished(draft(ended=True))


@pytest.mark.parametrize(
    ("text", "overlap", "rejected"),
    [
        (ANCHOR, 1.0, True),
        ("the OLD bridge, was closed (after the flood) in spring", 1.0, True),
        ("After the flood in spring the old bridge was closed.", 1.0, True),
        # 9 of 11 words: 0.818.
        ("The old bridge was shut after the flood in spring.", 0.81, True),
        ("The old bridge was shut after the flood in spring.", 0.82, False),
        # `the` is there twice, then once: 9 of 10 words.
        ("The old bridge was closed after flood in spring.", 0.9, True),
        ("The old bridge was closed after flood in spring.", 0.91, False),
        ("Water shut a crossing.", 0.1, False),
    ],
)
def test_copied(draft, text, overlap, rejected):
    assert filters.copied(draft(text, anchor=ANCHOR), overlap=overlap) == rejected


@pytest.mark.parametrize(
    ("length", "rejected"), [(25, True), (26, False), (52, False), (104, False), (105, True), (0, True)]
)
def test_wrong_length(draft, length, rejected):
    assert filters.wrong_length(draft("x" * length, anchor=ANCHOR), low=0.5, high=2.0) == rejected


@pytest.mark.parametrize(("cosine", "rejected"), [(0.49, True), (0.5, False), (0.9, False), (0.91, True)])
def test_wrong_similarity(draft, cosine, rejected):
    assert filters.wrong_similarity(draft(cosine=cosine), low=0.5, high=0.9) == rejected


@pytest.mark.parametrize(
    ("source", "text", "changed"),
    [
        (ANCHOR, "After the spring flood nobody could use the bridge.", False),
        (ANCHOR, "洪水之后旧桥被关闭了。", True),
        (ANCHOR, "The bridge 桥 was closed.", True),
        (ANCHOR, "Старый мост закрыли.", True),
        (ANCHOR, "Die alte Brücke wurde nach der Flut im Frühling gesperrt.", True),
        (ANCHOR, "Le vieux pont a été fermé après la crue du printemps.", True),
        (ANCHOR, "El puente viejo fue cerrado después de la inundación.", True),
        (ANCHOR, "Il vecchio ponte è stato chiuso dopo la piena di primavera.", True),
        (ANCHOR, "A velha ponte foi fechada depois da cheia na primavera.", True),
        (ANCHOR, "De oude brug werd na het hoge water van het voorjaar gesloten.", True),
        ("Die alte Brücke ist seit der Flut gesperrt.", "Seit der Flut ist die Brücke zu.", False),
        ("Die alte Brücke ist seit der Flut gesperrt.", "The bridge has been closed since the flood.", True),
        # Words that languages share, names, and what is too short to tell.
        ("A girl is swimming.", "He was in an old die factory in Las Vegas.", False),
        ("A girl is swimming.", "Paris is en route.", False),
        ("A girl is swimming.", "Ein Mädchen schwimmt.", False),
        ("Donuts sell.", "Die Leute kaufen das.", False),
        ("It is 5 µm long, 水 aside.", "It is 5 μm long, 水の外.", False),
        ("A girl is 37.2 °C warm.", "Her № 1 temperature is 37.2 ℃.", False),
    ],
)
def test_another_language(draft, source, text, changed):
    assert changes_language(source, text) == changed
    assert filters.foreign(draft(text, anchor=source)) == changed


def test_a_language_s_own_function_words_name_it():
    """Every list taken as a text is told from every other."""
    for language, words in FUNCTION_WORDS.items():
        assert [other for other in FUNCTION_WORDS if changes_language(words, FUNCTION_WORDS[other])] == [
            other for other in FUNCTION_WORDS if other != language
        ]
