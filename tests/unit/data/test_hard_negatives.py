"""Mining with vectors whose angles are known."""

import math

import pytest
import torch

from sempa_lightning.data import hard_negatives
from sempa_lightning.data.hard_negatives import (
    Embedded,
    Window,
    chosen_words,
    distinct_sentences,
    mined_rows,
    own_sentences,
    search,
)
from sempa_lightning.data.rows import Row
from sempa_lightning.errors import UserError

# Degrees away from the anchor, whose positive is at 20: 0.95 of its cosine is that of 26.8 degrees.
DEGREES = {
    "anchor": 0,
    "Anchor!": 0,
    "positive": 20,
    "near": 10,
    "edge": 26,
    "hard": 30,
    "mid": 60,
    "far": 90,
    "back": 180,
}
POOL = [name for name in DEGREES if name != "anchor"]
PERCENT = Window(of_positive=0.95, max_similarity=None, min_similarity=None)
NO_WINDOW = Window(of_positive=None, max_similarity=None, min_similarity=None)


def cosine(name):
    return math.cos(math.radians(DEGREES[name]))


def vectors(degrees):
    angles = torch.tensor([*degrees], dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def encode(sentences):
    """Not of unit length: that is the business of `Embedded`."""
    return 3 * vectors(DEGREES[sentence] for sentence in sentences)


EMBEDDED = Embedded.of(DEGREES, encode, torch.device("cpu"))


def mine(*rows, window=PERCENT, number=2, given=False, pool=POOL):
    return mined_rows(rows, pool, EMBEDDED, window, number, chosen=chosen_words(rows), given=given)


@pytest.mark.parametrize(
    ("window", "number", "expected"),
    [
        (PERCENT, 2, ["hard", "mid"]),
        (PERCENT, 9, ["hard", "mid", "far", "back"]),
        (NO_WINDOW, 3, ["near", "edge", "hard"]),
        (Window(1.0, None, None), 2, ["edge", "hard"]),
        (Window(0.95, 0.6, None), 2, ["mid", "far"]),
        (Window(None, 0.97, None), 2, ["edge", "hard"]),
        (Window(0.95, None, 0.3), 9, ["hard", "mid"]),
    ],
)
def test_nearest_within_the_window(window, number, expected):
    """Neither the anchor in other spelling nor the positive is ever a negative."""
    (row,) = mine(Row("anchor", ("positive",), ("hard",)), window=window, number=number).rows
    assert row.row == Row("anchor", ("positive",), tuple(expected))
    assert row.similarities == pytest.approx([cosine(name) for name in expected])
    assert row.positive == pytest.approx(cosine("positive"))


def test_what_was_left_out_and_why():
    """Of 8 sentences two have the words of anchor and positive, two are too near, one is too far."""
    mined = mine(Row("anchor", ("positive",), ()), window=Window(0.95, None, -0.5), number=1)
    assert mined.left_out == {"same_words": 2, "too_near": 2, "too_far": 1}
    (row,) = mined.rows
    assert (row.row.rejected, row.too_near) == (("hard",), ("near", pytest.approx(cosine("near"))))
    assert mine(Row("anchor", ("positive",), ()), window=NO_WINDOW).rows[0].too_near is None


def test_a_positive_on_the_other_side():
    """0.95 times a negative cosine would be nearer than the positive itself."""
    bounds = PERCENT.upper(torch.tensor([0.8, -0.5]))
    torch.testing.assert_close(bounds, torch.tensor([0.76, -0.525]))


def test_given_candidates_are_kept_before_the_mined_ones_and_not_mined_again():
    (row,) = mine(Row("anchor", ("positive",), ("far", "hard")), given=True).rows
    assert row.row.rejected == ("far", "hard", "mid", "back")
    assert row.similarities == pytest.approx([cosine(name) for name in row.row.rejected], abs=1e-9)


def test_rows_without_negatives_are_counted():
    rows = [Row("anchor", ("positive",), ("far",)), Row("back", ("far",), ())]
    window = Window(None, 0.99, 0.9)
    mined = mine(*rows, window=window, pool=["edge", "near"])
    assert [row.row.anchor for row in mined.rows] == ["anchor"]
    assert mined.as_dict(1)["without_negatives"] == mined.without == 1
    assert mine(*rows, window=window, pool=["mid"], given=True).as_dict(0)["candidates"] == {"2": 1}


def test_what_is_chosen_for_the_same_anchor_elsewhere_is_no_negative():
    rows = [Row("anchor", ("positive",), ()), Row("Anchor.", ("Hard",), ("mid",)), Row("far", ("back",), ("edge",))]
    assert own_sentences(rows, POOL, chosen_words(rows), with_rejected=False) == [
        [POOL.index(name) for name in names]
        for names in (["Anchor!", "hard", "positive"], ["Anchor!", "hard", "positive"], ["back", "far"])
    ]
    assert own_sentences(rows, POOL, chosen_words(rows), with_rejected=True)[2] == [
        POOL.index(name) for name in ("back", "edge", "far")
    ]


def test_what_another_part_chooses_for_the_anchor_is_no_negative():
    train, dev = Row("Anchor!", ("hard",), ()), Row("anchor", ("positive",), ())
    mined = mined_rows([dev], POOL, EMBEDDED, PERCENT, 1, chosen=chosen_words([train, dev]), given=False)
    assert mined.rows[0].row.rejected == ("mid",)
    assert mine(dev, number=1).rows[0].row.rejected == ("hard",), "which is nearer"


def test_the_pool_holds_each_sentence_once():
    rows = [Row("a", ("It rains.", "Rain"), ("it  rains",)), Row("b", ("RAIN!",), ("It rained.",))]
    assert distinct_sentences(rows) == ["It rains.", "Rain", "It rained."]


def test_the_same_in_pieces(monkeypatch):
    """Against an ordering of all pairs, with chunks of one and of a few anchors."""
    generator = torch.Generator().manual_seed(0)
    anchors, sentences = (
        torch.nn.functional.normalize(torch.randn(count, 6, generator=generator), dim=-1) for count in (7, 40)
    )
    positives, own = torch.full((7,), 0.6), [[place, 2 * place] for place in range(7)]
    expected = []
    for place, anchor in enumerate(anchors):
        cosines = {at: float(sentence @ anchor) for at, sentence in enumerate(sentences)}
        fit = [at for at, value in cosines.items() if value < 0.57 and at not in own[place]]
        expected.append(sorted(fit, key=cosines.get, reverse=True)[:5])
    for size in (1, 120, 2**24):
        monkeypatch.setattr(hard_negatives, "_SIMILARITIES", size)
        found, left_out = search(anchors, sentences, positives, own, PERCENT, 5)
        assert [of_anchor.places for of_anchor in found] == expected
        assert left_out["same_words"] == 13, "the places of the first anchor are one"
        assert left_out["too_near"] > 0


def test_sentences_are_embedded_once_and_some_at_a_time(monkeypatch):
    monkeypatch.setattr(hard_negatives, "_SENTENCES", 2)
    asked = []

    def recorded(sentences):
        asked.append(list(sentences))
        return encode(sentences)

    embedded = Embedded.of(["mid", "far", "mid", "back"], recorded, torch.device("cpu"))
    assert asked == [["mid", "far"], ["back"]]
    torch.testing.assert_close(embedded(["back", "mid"]), vectors([180, 60]))
    assert len(embedded([])) == 0


@pytest.mark.parametrize("bounds", [(1.5, None, None), (0.0, None, None), (None, 0.5, 0.5), (None, -0.2, 0.1)])
def test_a_window_that_holds_nothing(bounds):
    with pytest.raises(UserError, match=r"of_positive|max_similarity"):
        Window(*bounds)
