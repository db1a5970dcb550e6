"""How the outputs of a sentence become training rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sempa_lightning.synthesis.draft import Draft


class Ranking(NamedTuple):
    """The candidates of one row.

    Attributes:
        chosen: Best first.
        rejected: None in a row that is a pair only.
    """

    chosen: Sequence[Draft]
    rejected: Sequence[Draft]


Arrange = Callable[[Sequence[Draft]], list[Ranking]]
"""Makes rows of what one prompt gave for one sentence; outputs that it uses in none are rejected."""


def pairs(drafts: Sequence[Draft]) -> list[Ranking]:
    """Each output is a paraphrase: a row of its own, without rejected."""
    return [Ranking((draft,), ()) for draft in drafts]


def ranked(drafts: Sequence[Draft], *, top: int, chosen_from: float, rejected_to: float) -> list[Ranking]:
    """The outputs nearest to the sentence are chosen, the others rejected: one row, or none without both.

    Args:
        drafts: The outputs, in any order.
        top: How many are chosen at most.
        chosen_from: Lowest cosine of what is chosen.
        rejected_to: Highest cosine of what is rejected.
    """
    nearest = sorted(drafts, key=lambda draft: draft.cosine, reverse=True)
    chosen = [draft for draft in nearest[:top] if draft.cosine >= chosen_from]
    rejected = [draft for draft in nearest[len(chosen) :] if draft.cosine <= rejected_to]
    return [Ranking(chosen, rejected)] if chosen and rejected else []
