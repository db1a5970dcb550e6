"""The layout without repetition or padding: what candidates, and prompts, have in common is read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sempa_lightning.check import check_count
from sempa_lightning.models.causal_lm import decoder
from sempa_lightning.models.forward import relative_difference
from sempa_lightning.scoring.head import lm_head, target_logps
from sempa_lightning.scoring.mask import tree_mask
from sempa_lightning.types import PackedSequences, PreferenceBatch, TokenizedRow, padded


@dataclass(frozen=True)
class Packed:
    """Each prompt once, its candidates behind it, several anchors in a sequence.

    Whatever texts of a sequence begin with in common is there once: the prompt of an anchor's candidates, the words
    that candidates have in common, the template's opening, a chat template's system prompt. Sequences are filled
    evenly, so there is hardly any padding.

    Attributes:
        sequence_tokens: Aim for sequences of about this many tokens, and of one anchor at least: 1 gives each anchor
            a sequence of its own. Attention costs tokens times sequence length, so there is a best value in between.

    Raises:
        UserError: If that is not a whole number above 0.
    """

    sequence_tokens: int

    def __post_init__(self) -> None:
        """Check the length."""
        check_count("scoring.sequence_tokens", self.sequence_tokens)

    def num_tokens(self, rows: Sequence[TokenizedRow]) -> int:
        """Tokens at most: each prompt once, completions without their last, which predicts nothing; no padding."""
        return sum(map(_num_tokens, rows))

    def __call__(self, rows: Sequence[TokenizedRow], pad_token_id: int) -> PreferenceBatch:
        """Fill sequences evenly, longest anchors first."""
        width = max(len(row.completion_ids) for row in rows)
        longest = max(len(completion) for row in rows for completion in row.completion_ids)
        texts = [_texts(row, place * width, longest) for place, row in enumerate(rows)]
        sequences = [
            _Tree([text for place in places for text in texts[place]])
            for places in self._evenly([*map(_num_tokens, rows)])
        ]

        def stacked(name: str, padding: int) -> Tensor:
            return padded([getattr(sequence, name) for sequence in sequences], padding)

        input_ids = stacked("input_ids", pad_token_id)
        scored = [
            (index * input_ids.shape[1] + predictor, target, place)
            for index, sequence in enumerate(sequences)
            for predictor, target, place in sequence.scored
        ]
        predictors, targets, places = torch.tensor(scored).unbind(-1)
        return PreferenceBatch.of(
            rows,
            PackedSequences(
                input_ids=input_ids,
                position_ids=stacked("position_ids", 0),
                run_ends=stacked("run_ends", 0),
                predictors=predictors,
                targets=targets,
                places=places,
            ),
        )

    def _evenly(self, lengths: list[int]) -> list[list[int]]:
        """Deal anchors to sequences, the longest first, each to the sequence that is the shortest so far."""
        num_sequences = min(len(lengths), -(-sum(lengths) // self.sequence_tokens))
        filled: list[tuple[int, list[int]]] = [(0, []) for _ in range(num_sequences)]
        for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
            shortest = min(range(num_sequences), key=lambda sequence: filled[sequence][0])
            length, places = filled[shortest]
            filled[shortest] = (length + lengths[place], [*places, place])
        return [places for _, places in filled]


class _Text(NamedTuple):
    """Prompt and completion of a candidate.

    Attributes:
        ids: Token ids without the last, which predicts nothing.
        completion: The scored tokens.
        place: Of the first scored token in the flattened anchors × candidates × positions.
    """

    ids: list[int]
    completion: list[int]
    place: int


def _texts(row: TokenizedRow, first: int, longest: int) -> list[_Text]:
    return [
        _Text(row.prompt_ids + completion[:-1], completion, (first + candidate) * longest)
        for candidate, completion in enumerate(row.completion_ids)
    ]


def _num_tokens(row: TokenizedRow) -> int:
    return len(row.prompt_ids) + sum(len(completion) - 1 for completion in row.completion_ids)


class _Tree:
    """One sequence: the columns of `PackedSequences`.

    Args:
        texts: What it holds.
    """

    def __init__(self, texts: list[_Text]) -> None:
        self.input_ids: list[int] = []
        self.position_ids: list[int] = []
        self.run_ends: list[int] = []
        self.scored: list[tuple[int, int, int]] = []  # predictor, target, place
        path: list[int] = []  # columns of the text before
        for text in sorted(texts):  # texts that begin alike stand beside each other
            path = self._append(text.ids, path)
            first = len(path) - len(text.completion)
            self.scored += zip(path[first:], text.completion, count(text.place))

    def _append(self, ids: list[int], path: list[int]) -> list[int]:
        """Let a text branch off from the one before; the columns of its tokens."""
        pairs = zip(ids, path, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == self.input_ids[pair[1]], pairs))
        first, end = len(self.input_ids), len(self.input_ids) + len(ids) - shared
        path = [*path[:shared], *range(first, end)]
        self.input_ids += ids[shared:]
        self.position_ids += range(shared, len(ids))
        self.run_ends += [0] * (end - first)
        for column in path:
            self.run_ends[column] = end
        return path


@torch.no_grad()
def leak(policy: nn.Module, sequences: PackedSequences) -> float:
    """Return how far the state of a sequence's last token moves when all tokens that it may not see are changed.

    Relative to its norm, in a pass of the same shape. Attention leaves hidden tokens out exactly; recurrence and
    convolutions know columns only.
    """
    last = int(sequences.live[0].nonzero()[-1])
    seen = (sequences.run_ends[0] > last) | (
        torch.arange(sequences.input_ids.shape[1], device=sequences.live.device) == last
    )
    others = sequences.input_ids.roll(1, 0) if len(sequences.input_ids) > 1 else sequences.input_ids
    changed = torch.where(seen, sequences.input_ids[0], others[0].flip(0))
    states = [
        _states(policy, sequences._replace(input_ids=torch.cat([first[None], sequences.input_ids[1:]])))[0, last]
        for first in (sequences.input_ids[0], changed)
    ]
    return relative_difference(states[1], states[0]) if states[0].isfinite().all() else 0.0


def packed_logps(policy: nn.Module, sequences: PackedSequences, num_places: int) -> Float[Tensor, " places"]:
    """Log-probability at each place of the flattened anchors × candidates × positions, 0 where no token is.

    The language-model head runs on the states that predict a scored token only.
    """
    states = _states(policy, sequences)
    # What follows a prompt first is predicted once for all its candidates.
    places, predictors = torch.unique(sequences.predictors, return_inverse=True)
    logps = target_logps(states.flatten(0, 1)[places], lm_head(policy), predictors, sequences.targets)
    return logps.new_zeros(num_places).index_copy(0, sequences.places, logps)


def _states(policy: nn.Module, sequences: PackedSequences) -> Float[Tensor, "sequences tokens hidden"]:
    backbone = decoder(policy)
    states: Tensor = backbone(
        input_ids=sequences.input_ids,
        position_ids=sequences.position_ids,
        attention_mask=tree_mask(sequences, backbone),
        use_cache=False,
    ).last_hidden_state
    return states
