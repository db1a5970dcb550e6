"""Which outputs are chosen, by cosines that are given, and by vectors that are."""

import pytest
import torch

from sempa_lightning.synthesis.arrangement import pairs, ranked


def texts(rankings):
    return [[[one.text for one in part] for part in ranking] for ranking in rankings]


@pytest.fixture
def four(draft):
    """Cosines 0.2, 0.9, 0.5, 0.9: of two that are equally near the first stays first."""
    return [draft(text, cosine=cosine) for text, cosine in (("a", 0.2), ("b", 0.9), ("c", 0.5), ("d", 0.9))]


def test_pairs_are_rows_of_their_own(four):
    assert texts(pairs(four)) == [[["a"], []], [["b"], []], [["c"], []], [["d"], []]]
    assert pairs([]) == []


@pytest.mark.parametrize(
    ("top", "chosen_from", "rejected_to", "expected"),
    [
        (1, -1.0, 1.0, [[["b"], ["d", "c", "a"]]]),
        (2, -1.0, 1.0, [[["b", "d"], ["c", "a"]]]),
        (3, 0.6, 1.0, [[["b", "d"], ["c", "a"]]]),
        (1, -1.0, 0.5, [[["b"], ["c", "a"]]]),
        (1, 0.95, 1.0, []),
        (1, -1.0, 0.1, []),
        (4, -1.0, 1.0, []),
    ],
)
def test_the_nearest_are_chosen(four, top, chosen_from, rejected_to, expected):
    assert texts(ranked(four, top=top, chosen_from=chosen_from, rejected_to=rejected_to)) == expected


def test_one_output_cannot_be_ranked(four):
    assert ranked(four[:1], top=1, chosen_from=-1.0, rejected_to=1.0) == []


def test_cosines_are_those_of_the_vectors(tiny_llama, tiny_tokenizer, monkeypatch):
    """A man at (1, 0); outputs at 0, 60, 90 and 180 degrees from him, so cosines of 1, 0.5, 0 and -1."""
    from sempa_lightning.models.generation import Continuation, Sampling
    from sempa_lightning.prompts.template import PromptTemplate
    from sempa_lightning.synthesis import writer
    from sempa_lightning.synthesis.plan import Plan

    places = {"A man.": (2.0, 0.0), "90": (0.0, 3.0), "0": (0.5, 0.0), "180": (-1.0, 0.0), "60": (0.5, 0.75**0.5)}

    class Known:
        def encode(self, sentences):
            return torch.tensor([places[sentence] for sentence in sentences])

    written = iter(["90", "0", "180", "60"])
    monkeypatch.setattr(
        writer,
        "continue_texts",
        lambda *arguments, **_: [Continuation(next(written), True) for _ in arguments[2]],
    )
    plan = Plan({"say": PromptTemplate("Say {sentence}")}, None, 4, 0)
    advanced = []
    write = writer.Writer(tiny_llama, tiny_tokenizer, Known(), plan, Sampling(4), 3)
    drafts = write(["A man."], advanced.append)
    assert [(one.text, one.cosine, one.number) for one in drafts] == [
        ("90", 0.0, 0), ("0", 1.0, 1), ("180", -1.0, 2), ("60", 0.5, 3),
    ]  # fmt: skip
    assert advanced == [0, 3, 1]
    assert texts(ranked(drafts, top=2, chosen_from=-1.0, rejected_to=1.0)) == [[["0", "60"], ["90", "180"]]]
