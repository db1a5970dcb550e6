"""Which rejected candidates an anchor is trained with: those of its row, and chosen ones of others in its step."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sempa_lightning.check import CountOrZero, check_choice, check_count
from sempa_lightning.types import TokenizedRow


def chosen_of_others(rows: Sequence[TokenizedRow], place: int, max_length: int) -> Iterator[list[int]]:
    """Yield the first chosen candidates of other rows that can be negatives of the row at a place.

    They come in the order of the step, from the row behind that place on and round its end. Left out, by token ids, are
    candidates equal to the anchor or to any of its own, those of rows whose anchor is this one or one of its chosen
    (they say the same), repetitions, and what would take more than `max_length` tokens together with the prompt.
    """
    row = rows[place]
    same = {tuple(ids) for ids in (row.anchor_ids, *row.completion_ids[: row.num_chosen])} - {()}
    known = same | {tuple(ids) for ids in row.completion_ids}
    for other in (*rows[place + 1 :], *rows[:place]):
        candidate = other.completion_ids[0]
        too_long = len(row.prompt_ids) + len(candidate) > max_length
        if not too_long and tuple(other.anchor_ids) not in same and tuple(candidate) not in known:
            known.add(tuple(candidate))
            yield candidate


@dataclass(frozen=True)
class Negatives:
    """Chooses the rejected candidates of all rows of an optimiser step.

    What a row gets follows from its place in the step alone, so that neither the number of processes nor the cut into
    micro-batches changes anything. Steps are drawn anew each epoch, and so are the candidates of others.

    Attributes:
        given: Keep the rejected candidates that a row brings along.
        in_batch: Add this many candidates of other anchors of the step (see `chosen_of_others`), fewer where the step
            has too few.

    Raises:
        UserError: If `given` is neither true nor false, or `in_batch` is not a whole number from 0 on.
    """

    given: bool
    in_batch: CountOrZero

    def __post_init__(self) -> None:
        """Check both."""
        check_choice("data.negatives.given", self.given)
        check_count("data.negatives.in_batch", self.in_batch, least=0)

    def __call__(self, rows: Sequence[TokenizedRow], max_length: int) -> list[TokenizedRow]:
        """The rows of a step, in their order, with the candidates that they are trained with."""
        return [self._chosen_for(rows, place, max_length) for place in range(len(rows))]

    def _chosen_for(self, rows: Sequence[TokenizedRow], place: int, max_length: int) -> TokenizedRow:
        row = rows[place]
        own = row.completion_ids if self.given else row.completion_ids[: row.num_chosen]
        others = list(islice(chosen_of_others(rows, place, max_length), self.in_batch))
        return row._replace(completion_ids=[*own, *others], num_in_batch=len(others))


def candidate_counts(rows: Sequence[TokenizedRow]) -> dict[str, dict[str, int]]:
    """How many rows have how many candidates: in all (K), rejected ones of their own, and ones of other anchors."""
    numbers = {
        "candidates": [len(row.completion_ids) for row in rows],
        "given": [len(row.own_completion_ids) - row.num_chosen for row in rows],
        "in_batch": [row.num_in_batch for row in rows],
    }
    return {name: {str(k): count for k, count in sorted(Counter(ks).items())} for name, ks in numbers.items()}
