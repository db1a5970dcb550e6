"""The packed layout by hand, what can be read back from it, and how full it is."""

import numpy as np
import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.types import TokenizedRow

PAD = 99


def random_rows(count, seed=0, start=()):
    """As real ones are: prompts of 10 to 50 tokens, two to five candidates of 2 to 30."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    def ids(length):
        return torch.randint(0, 90, (length,), generator=generator).tolist()

    return [
        TokenizedRow(
            str(place), [*start, *ids(number(10, 50))], [ids(number(2, 30)) for _ in range(number(2, 5))], number(1, 2)
        )
        for place in range(count)
    ]


def read_back(batch):
    """The rows that a batch holds, by following each scored token to what predicts it."""
    sequences, shape = batch.sequences, (*batch.candidate_mask.shape, int(batch.completion_lengths.max()))
    columns = [column.flatten().tolist() for column in sequences[:3]]
    length = sequences.input_ids.shape[1]

    def read(place):
        """Token ids, and positions, that stand before the place and belong to its text."""
        start = place - place % length
        seen = [at for at in range(start, place + 1) if columns[2][at] > place - start]
        return [columns[0][at] for at in seen], [columns[1][at] for at in seen]

    found = {}
    scored = zip(sequences.predictors.tolist(), sequences.targets.tolist(), sequences.places.tolist(), strict=True)
    for predictor, target, place in scored:
        context, positions = read(predictor)
        assert positions == list(range(len(context))), "positions are those of the text alone"
        anchor, candidate, position = map(int, np.unravel_index(place, shape))
        prompt, completion = found.setdefault((anchor, candidate), (context, []))
        assert position == len(completion)
        assert context == prompt + completion, "a token is predicted from all that stand before it, in order"
        completion.append(target)
    return found


def test_two_anchors_by_hand():
    rows = [TokenizedRow("a", [1, 2, 3], [[4, 5, 0], [6, 0]], 1), TokenizedRow("b", [1, 2, 7, 8], [[9, 0]], 1)]
    batch = Packed(100)(rows, PAD)
    sequences = batch.sequences
    # Common start | a's prompt | its candidates | b's prompt | its candidate, all without their last token.
    assert sequences.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert sequences.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 2, 3, 4]]
    assert sequences.run_ends.tolist() == [[9, 9, 6, 5, 5, 6, 9, 9, 9]]
    assert sequences.predictors.tolist() == [2, 3, 4, 2, 5, 7, 8]
    assert sequences.targets.tolist() == [4, 5, 0, 6, 0, 9, 0]
    # Anchors × 2 candidates × 3 positions.
    assert sequences.places.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert sequences.live.all()
    assert batch.rows == rows
    assert batch.candidate_mask.tolist() == [[True, True], [True, False]]
    assert batch.completion_lengths.tolist() == [[3, 2], [2, 0]]
    assert batch.num_chosen.tolist() == [1, 1]


def test_a_sequence_for_each_anchor_by_hand():
    rows = [TokenizedRow("a", [1, 2], [[4, 0]], 1), TokenizedRow("b", [1, 2, 7], [[9, 0], [8]], 2)]
    batch = Packed(1)(rows, PAD)
    sequences = batch.sequences
    # The longest first.
    assert sequences.input_ids.tolist() == [[1, 2, 7, 9], [1, 2, 4, PAD]]
    assert sequences.position_ids.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert sequences.run_ends.tolist() == [[4, 4, 4, 4], [3, 3, 3, 0]]
    assert sequences.predictors.tolist() == [2, 2, 3, 5, 6]
    assert sequences.targets.tolist() == [8, 9, 0, 4, 0]
    assert sequences.places.tolist() == [6, 4, 5, 0, 1]
    assert sequences.live.tolist() == [[True] * 4, [True, True, True, False]]
    # Places follow the order of the rows, not that of the sequences.
    assert batch.candidate_mask.tolist() == [[True, False], [True, True]]
    assert batch.completion_lengths.tolist() == [[2, 0], [2, 1]]
    assert batch.num_chosen.tolist() == [1, 2]


def test_candidates_that_begin_alike_by_hand():
    """One is the beginning of another, two are the same, one of another anchor goes on from the same words."""
    rows = [
        TokenizedRow("a", [1, 2], [[4, 5, 6, 0], [4, 5, 0], [4, 5, 0], [4, 7, 0]], 1),
        TokenizedRow("b", [1, 2, 4], [[5, 0]], 1),
    ]
    batch = Packed(100)(rows, PAD)
    sequences = batch.sequences
    assert sequences.input_ids.tolist() == [[1, 2, 4, 5, 6, 7]]
    assert sequences.position_ids.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert sequences.run_ends.tolist() == [[6, 6, 6, 5, 5, 6]]
    assert read_back(batch) == {
        (place, candidate): (row.prompt_ids, completion)
        for place, row in enumerate(rows)
        for candidate, completion in enumerate(row.completion_ids)
    }


@pytest.mark.parametrize("start", [(), tuple(range(40, 70))], ids=["nothing in common", "a long common start"])
@pytest.mark.parametrize("sequence_tokens", [1, 200, 1000, 10**9])
def test_every_row_can_be_read_back(sequence_tokens, start):
    rows = random_rows(12, start=start)
    batch = Packed(sequence_tokens)(rows, PAD)
    found = read_back(batch)
    assert len(found) == sum(len(row.completion_ids) for row in rows)
    for (anchor, candidate), (prompt, completion) in found.items():
        assert prompt == rows[anchor].prompt_ids
        assert completion == rows[anchor].completion_ids[candidate]
        assert batch.candidate_mask[anchor, candidate]
    assert batch.row_ids == [row.id for row in rows]


@pytest.mark.parametrize("start", [(), tuple(range(40, 70))], ids=["nothing in common", "a long common start"])
@pytest.mark.parametrize("sequence_tokens", [1, 200, 1000, 10**9])
def test_no_token_stands_there_twice(sequence_tokens, start):
    rows, layout = random_rows(12, start=start), Packed(sequence_tokens)
    batch = layout(rows, PAD)
    sequences, length = batch.sequences, batch.sequences.input_ids.shape[1]
    held = [set() for _ in sequences.input_ids]
    candidates = (sequences.places // int(batch.completion_lengths.max())).tolist()
    places = zip(sequences.predictors.tolist(), candidates, strict=True)
    for sequence, flat in {(place // length, flat) for place, flat in places}:
        anchor, candidate = divmod(flat, batch.candidate_mask.shape[1])
        text = rows[anchor].prompt_ids + rows[anchor].completion_ids[candidate][:-1]
        held[sequence] |= {tuple(text[: end + 1]) for end in range(len(text))}
    assert sequences.live.sum(-1).tolist() == [len(starts) for starts in held]
    assert (sequences.input_ids[~sequences.live] == PAD).all()
    assert (sequences.input_ids[sequences.live] != PAD).all()


def test_tokens_of_a_row_are_those_of_its_sequence():
    for row in random_rows(8):
        for sequence_tokens in (1, 1000):
            layout = Packed(sequence_tokens)
            found = layout([row], PAD).sequences.input_ids.numel()
            assert 0.95 * layout.num_tokens([row]) < found <= layout.num_tokens([row])


@pytest.mark.parametrize("sequence_tokens", [200, 500, 1000])
def test_sequences_are_filled_evenly_and_to_about_the_size(sequence_tokens):
    for seed in range(5):
        rows, layout = random_rows(40, seed), Packed(sequence_tokens)
        lengths = layout(rows, PAD).sequences.live.sum(-1)
        longest = max(layout.num_tokens([row]) for row in rows)
        assert lengths.max() - lengths.min() <= longest
        assert len(lengths) == -(-int(lengths.sum()) // sequence_tokens), "no more sequences than needed"
        assert lengths.max() <= sequence_tokens + longest


@pytest.mark.parametrize("start", [(), tuple(range(40, 70))], ids=["nothing in common", "a long common start"])
def test_there_is_hardly_any_padding(start):
    for seed in range(5):
        live = Packed(1000)(random_rows(64, seed, start), PAD).sequences.live
        assert len(live) > 4
        assert (~live).float().mean() < 0.05


def test_the_same_rows_give_the_same_sequences():
    first, second = (Packed(300)(random_rows(20), PAD).sequences for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("sequence_tokens", [0, -1])
def test_sequences_have_at_least_one_token(sequence_tokens):
    with pytest.raises(UserError, match=rf"scoring\.sequence_tokens={sequence_tokens} is not a whole number above 0"):
        Packed(sequence_tokens)
