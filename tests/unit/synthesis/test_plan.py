"""Which prompts a sentence gets: a draw that depends on sentence and seed alone."""

from collections import Counter

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.synthesis.plan import Plan

PROMPTS = {name: PromptTemplate(f"{name}: {{sentence}}") for name in ("one", "two", "three")}
SENTENCES = [f"Sentence {number}." for number in range(600)]


def test_every_sentence_is_put_into_every_prompt_as_often_as_asked():
    requests = Plan(PROMPTS, None, 2, 0).requests(["A.", "B."])
    assert [request[:3] for request in requests] == [
        (sentence, name, number) for sentence in ("A.", "B.") for name in PROMPTS for number in (0, 1)
    ]
    assert len({request.seed for request in requests}) == 12


def test_prompts_are_drawn_alike():
    """Each third of 600 within four standard deviations of 200, sqrt(600 · 1/3 · 2/3) = 11.5."""
    plan = Plan(PROMPTS, 1, 1, 0)
    requests = plan.requests(SENTENCES)
    assert [request.anchor for request in requests] == SENTENCES
    counts = Counter(request.prompt for request in requests)
    assert counts.keys() == PROMPTS.keys()
    assert max(abs(count - 200) for count in counts.values()) < 46


def test_a_sentence_is_asked_alike_whatever_stands_beside_it():
    plan = Plan(PROMPTS, 2, 2, 0)
    everything = set(plan.requests(SENTENCES[:20]))
    assert {request for sentence in SENTENCES[19::-1] for request in plan.requests([sentence])} == everything
    assert len(everything) == 20 * plan.size == 80
    other = set(Plan(PROMPTS, 2, 2, 1).requests(SENTENCES[:20]))
    assert not {request.seed for request in other} & {request.seed for request in everything}


def test_no_more_prompts_are_drawn_than_there_are():
    assert Plan(PROMPTS, 5, 2, 0).size == len(Plan(PROMPTS, 5, 2, 0).requests(["A."])) == 6


def test_there_must_be_a_prompt():
    with pytest.raises(UserError, match="transformation=roth"):
        Plan({}, None, 1, 0)
