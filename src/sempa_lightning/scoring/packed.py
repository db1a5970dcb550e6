"""The layout without repetition or padding: what candidates, and prompts, have in common is read once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder
from sempa_lightning.prompts.shared_start import shared_start
from sempa_lightning.scoring.head import lm_head, target_logps
from sempa_lightning.scoring.mask import tree_mask
from sempa_lightning.types import PackedSequences, PreferenceBatch, TokenizedRow, padded


@dataclass(frozen=True)
class Packed:
    """Each prompt once, its candidates behind it, several anchors in a sequence.

    Anchors of a sequence also share the tokens that all their prompts begin with: the template's opening words, or
    a chat template's system prompt. Sequences are filled evenly, so there is hardly any padding.

    Attributes:
        sequence_tokens: Aim for sequences of about this many tokens, and of one anchor at least: 1 gives each anchor
            a sequence of its own. Attention costs tokens times sequence length, so there is a best value in between.

    Raises:
        UserError: If that is not a whole number above 0.
    """

    sequence_tokens: int

    def __post_init__(self) -> None:
        """Check the length."""
        if not isinstance(self.sequence_tokens, int) or self.sequence_tokens < 1:
            raise UserError(f"scoring.sequence_tokens={self.sequence_tokens} is not a whole number above 0")

    def num_tokens(self, rows: Sequence[TokenizedRow]) -> int:
        """Tokens of prompts and of completions without their last, which predict nothing; trunk and padding aside."""
        return sum(map(_num_tokens, rows))

    def __call__(self, rows: Sequence[TokenizedRow], pad_token_id: int) -> PreferenceBatch:
        """Fill sequences evenly, longest anchors first."""
        sequences = [
            _Tree([rows[place] for place in places], places) for places in self._evenly([*map(_num_tokens, rows)])
        ]
        width = max(len(row.completion_ids) for row in rows)

        def stacked(name: str, padding: int) -> Tensor:
            return padded([getattr(sequence, name) for sequence in sequences], padding)

        input_ids = stacked("input_ids", pad_token_id)
        scored = [
            (index * input_ids.shape[1] + predictor, target, place * width + candidate)
            for index, sequence in enumerate(sequences)
            for predictor, target, place, candidate in sequence.scored
        ]
        predictors, targets, candidates = torch.tensor(scored).unbind(-1)
        return PreferenceBatch.of(
            rows,
            PackedSequences(
                input_ids=input_ids,
                position_ids=stacked("position_ids", 0),
                anchor_ids=stacked("anchor_ids", -1),
                candidate_ids=stacked("candidate_ids", 0),
                predictors=predictors,
                targets=targets,
                candidates=candidates,
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


def _num_tokens(row: TokenizedRow) -> int:
    return len(row.prompt_ids) + sum(len(completion) - 1 for completion in row.completion_ids)


class _Tree:
    """One sequence, laid flat: the columns of `PackedSequences`.

    Args:
        rows: Its anchors.
        places: Their places in the batch.
    """

    def __init__(self, rows: list[TokenizedRow], places: list[int]) -> None:
        self.input_ids: list[int] = []
        self.position_ids: list[int] = []
        self.anchor_ids: list[int] = []
        self.candidate_ids: list[int] = []
        self.scored: list[tuple[int, int, int, int]] = []  # predictor, target, place of the anchor, candidate
        trunk = shared_start([row.prompt_ids for row in rows])
        self._append(trunk, 0, 0, 0)
        for anchor, (row, place) in enumerate(zip(rows, places, strict=True), start=1):
            self._append(row.prompt_ids[len(trunk) :], len(trunk), anchor, 0)
            end_of_prompt = len(self.input_ids) - 1
            for candidate, completion in enumerate(row.completion_ids):
                first = len(self.input_ids)
                predictors = [end_of_prompt, *range(first, first + len(completion) - 1)]
                self.scored += [
                    (predictor, target, place, candidate)
                    for predictor, target in zip(predictors, completion, strict=True)
                ]
                self._append(completion[:-1], len(row.prompt_ids), anchor, candidate + 1)

    def _append(self, ids: list[int], position: int, anchor: int, candidate: int) -> None:
        self.input_ids += ids
        self.position_ids += range(position, position + len(ids))
        self.anchor_ids += [anchor] * len(ids)
        self.candidate_ids += [candidate] * len(ids)


def packed_logps(policy: nn.Module, sequences: PackedSequences, num_candidates: int) -> Float[Tensor, " candidates"]:
    """Log-probability of each place of the flattened `candidate_mask`, 0 where no candidate is.

    The language-model head runs on the states that predict a scored token only.
    """
    backbone = decoder(policy)
    states: Tensor = backbone(
        input_ids=sequences.input_ids,
        position_ids=sequences.position_ids,
        attention_mask=tree_mask(sequences, backbone),
        use_cache=False,
    ).last_hidden_state
    predicting = states.flatten(0, 1)[sequences.predictors]
    logps = target_logps(predicting, lm_head(policy), sequences.targets)
    return logps.new_zeros(num_candidates).index_add(0, sequences.candidates, logps)
