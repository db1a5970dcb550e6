"""The packed layout by hand, what can be read back from it, and how full it is."""

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
    sequences, width = batch.sequences, batch.candidate_mask.shape[1]
    columns = {name: getattr(sequences, name).flatten().tolist() for name in sequences._fields[:4]}
    length = sequences.input_ids.shape[1]

    def read(place, candidate):
        """Token ids, and positions, that stand before the place and belong to it."""
        start = place - place % length
        anchor = columns["anchor_ids"][place]
        seen = [
            at
            for at in range(start, place + 1)
            if columns["anchor_ids"][at] in (0, anchor) and columns["candidate_ids"][at] in (0, candidate)
        ]
        return [columns["input_ids"][at] for at in seen], [columns["position_ids"][at] for at in seen]

    found = {}
    scored = zip(sequences.predictors.tolist(), sequences.targets.tolist(), sequences.candidates.tolist(), strict=True)
    for predictor, target, flat in scored:
        context, positions = read(predictor, columns["candidate_ids"][predictor])
        assert positions == list(range(len(context))), "positions are those of the text alone"
        prompt, completion = found.setdefault(divmod(flat, width), (context, []))
        assert context == prompt + completion, "a token is predicted from all that stand before it, in order"
        completion.append(target)
    return found


def test_two_anchors_by_hand():
    rows = [TokenizedRow("a", [1, 2, 3], [[4, 5, 0], [6, 0]], 1), TokenizedRow("b", [1, 2, 7, 8], [[9, 0]], 1)]
    batch = Packed(100)(rows, PAD)
    sequences = batch.sequences
    # trunk | a's prompt | its candidates | b's prompt | its candidate, all without their last token. a is as long as b
    # and comes first.
    assert sequences.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert sequences.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 2, 3, 4]]
    assert sequences.anchor_ids.tolist() == [[0, 0, 1, 1, 1, 1, 2, 2, 2]]
    assert sequences.candidate_ids.tolist() == [[0, 0, 0, 1, 1, 2, 0, 0, 1]]
    assert sequences.predictors.tolist() == [2, 3, 4, 2, 5, 7, 8]
    assert sequences.targets.tolist() == [4, 5, 0, 6, 0, 9, 0]
    assert sequences.candidates.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert sequences.live.all()
    assert batch.rows == rows
    assert batch.candidate_mask.tolist() == [[True, True], [True, False]]
    assert batch.completion_lengths.tolist() == [[3, 2], [2, 0]]
    assert batch.num_chosen.tolist() == [1, 1]


def test_a_sequence_for_each_anchor_by_hand():
    rows = [TokenizedRow("a", [1, 2], [[4, 0]], 1), TokenizedRow("b", [1, 2, 7], [[9, 0], [8]], 2)]
    batch = Packed(1)(rows, PAD)
    sequences = batch.sequences
    # The longest first; a single anchor has no trunk.
    assert sequences.input_ids.tolist() == [[1, 2, 7, 9], [1, 2, 4, PAD]]
    assert sequences.position_ids.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert sequences.anchor_ids.tolist() == [[1, 1, 1, 1], [1, 1, 1, -1]]
    assert sequences.candidate_ids.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
    assert sequences.predictors.tolist() == [2, 3, 2, 5, 6]
    assert sequences.targets.tolist() == [9, 0, 8, 4, 0]
    assert sequences.candidates.tolist() == [2, 2, 3, 0, 0]
    assert sequences.live.tolist() == [[True] * 4, [True, True, True, False]]
    # Places follow the order of the rows, not that of the sequences.
    assert batch.candidate_mask.tolist() == [[True, False], [True, True]]
    assert batch.completion_lengths.tolist() == [[2, 0], [2, 1]]
    assert batch.num_chosen.tolist() == [1, 2]


@pytest.mark.parametrize("prompts", [[[1, 2, 3], [1, 2, 3]], [[1, 2, 3], [1, 2, 3, 4, 5]], [[1, 2, 3, 4], [1, 2, 9]]])
def test_the_trunk_leaves_every_prompt_its_last_token(prompts):
    rows = [TokenizedRow(str(prompt), prompt, [[7, 0]], 1) for prompt in prompts]
    sequences = Packed(100)(rows, PAD).sequences
    assert sequences.input_ids[sequences.anchor_ids == 0].tolist() == [1, 2]


@pytest.mark.parametrize("prompts", [[[1], [1]], [[1, 2], [3, 2]], [[1, 2, 3]]])
def test_without_a_trunk(prompts):
    rows = [TokenizedRow(str(prompt), prompt, [[7, 0]], 1) for prompt in prompts]
    assert (Packed(100)(rows, PAD).sequences.anchor_ids > 0).all()


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
    sequences = layout(rows, PAD).sequences
    num_sequences, anchors = len(sequences.input_ids), sequences.anchor_ids.amax(-1)
    shared = (anchors - 1) * (sequences.anchor_ids == 0).sum(-1)
    assert sequences.live.sum() == layout.num_tokens(rows) - shared.sum()
    assert int(anchors.sum()) == len(rows)
    if start and num_sequences < len(rows):
        assert (sequences.anchor_ids == 0).sum(-1).max() == len(start)
    assert (sequences.input_ids[~sequences.live] == PAD).all()
    assert (sequences.input_ids[sequences.live] != PAD).all()


def test_tokens_of_a_row_are_those_of_its_sequence():
    for row in random_rows(8):
        for sequence_tokens in (1, 1000):
            layout = Packed(sequence_tokens)
            assert layout.num_tokens([row]) == layout([row], PAD).sequences.input_ids.numel()


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
