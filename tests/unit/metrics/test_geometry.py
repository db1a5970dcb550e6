"""Numbers by hand, in numpy, and by laws; and values of single sentences that tell the number's standard error."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from sempa_lightning.metrics import geometry
from sempa_lightning.metrics.geometry import (
    alignment,
    cosine_values,
    effective_rank,
    entropy_values,
    isotropy,
    mean_cosine,
    partition_values,
    potential_values,
    squared_distances,
    uniformity,
)

NUMBERS = [uniformity, mean_cosine, isotropy, effective_rank]


def draw(count, width=6, seed=0):
    """Rows with a common direction and unequal spread, as embeddings have."""
    generator = torch.Generator().manual_seed(seed)
    return 1 + torch.randn(count, width, generator=generator, dtype=torch.float64) * torch.linspace(0.5, 2, width)


def unit(rows):
    return rows / rows.norm(dim=-1, keepdim=True)


# The whole set's number from the values of a sample of its sentences.
FROM_VALUES = {
    "uniformity": (potential_values, lambda values: values.mean(0).log()),
    "mean_cosine": (cosine_values, lambda values: values.mean(0)),
    "isotropy": (partition_values, lambda values: values.mean(0)[0] / values.mean(0)[1]),
    "effective_rank": (entropy_values, lambda values: values.mean(0).exp()),
}


class TestByHand:
    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            # Distances √2 and one length along every axis.
            ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], (-4, 0, 1, 3)),
            # Collapsed: Z is 4e along the set and 4 across it.
            ([[0, 1, 0]] * 4, (0, 1, 1 / math.e, 1)),
            # Opposite: distance 2; Z is e + 1/e along and 2 across.
            ([[1, 0], [-1, 0]], (-8, -1, 2 / (math.e + 1 / math.e), 1)),
        ],
        ids=["orthonormal basis", "collapsed", "opposite"],
    )
    def test_extreme_sets(self, rows, expected):
        rows = torch.tensor(rows, dtype=torch.float32)
        assert [number(rows) for number in NUMBERS] == pytest.approx(expected, abs=1e-6)

    def test_three_sentences(self):
        """Cosines 0, √½ and √½, whatever the lengths."""
        rows = torch.tensor([[1.0, 0.0], [0.0, 5.0], [3.0, 3.0]])
        half = math.sqrt(0.5)
        assert uniformity(rows) == pytest.approx(math.log((math.exp(-4) + 2 * math.exp(4 * half - 4)) / 3))
        assert mean_cosine(rows) == pytest.approx(2 * half / 3)

    def test_isotropy_and_rank_along_known_axes(self):
        """VᵀV = diag(4, 1): Z(e₁) = e² + 1, Z(e₂) = 1 + e; shares of singular values 2/3 and 1/3."""
        rows = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        assert isotropy(rows) == pytest.approx((1 + math.e) / (1 + math.e**2))
        assert effective_rank(rows) == pytest.approx(3 / 2 ** (2 / 3))

    def test_alignment(self):
        """Squared distances 2 and 0, whatever the lengths."""
        first, second = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [4.0, 4.0]])
        torch.testing.assert_close(squared_distances(first, second), torch.tensor([2.0, 0.0]))
        assert alignment(first, second) == pytest.approx(1)

    def test_two_sentences_have_a_pair(self):
        assert mean_cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(math.sqrt(0.5))

    def test_zero_vectors_have_no_rank(self):
        assert effective_rank(torch.zeros(3, 2)) == 0


@pytest.mark.parametrize(("count", "width"), [(40, 6), (6, 40)])
def test_numbers_equal_numpy(count, width):
    rows = draw(count, width).numpy()
    normal = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert uniformity(torch.tensor(rows)) == pytest.approx(np.log(np.exp(-2 * pdist(normal) ** 2).mean()))
    assert mean_cosine(torch.tensor(rows)) == pytest.approx(1 - pdist(rows, "cosine").mean())
    _, axes = np.linalg.eigh(rows.T @ rows)
    partition = np.maximum(np.exp(rows @ axes).sum(0), np.exp(-rows @ axes).sum(0))
    assert isotropy(torch.tensor(rows)) == pytest.approx(partition.min() / partition.max())
    shares = np.linalg.svd(rows, compute_uv=False) / np.linalg.svd(rows, compute_uv=False).sum()
    assert effective_rank(torch.tensor(rows)) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


class TestLaws:
    @pytest.mark.parametrize("number", NUMBERS)
    def test_rotation_reflection_and_order_change_nothing(self, number):
        rows = draw(30)
        turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
        for other in (rows @ turn, -rows, rows.flip(0)):
            assert number(other) == pytest.approx(number(rows), rel=1e-9)

    @pytest.mark.parametrize("number", [uniformity, mean_cosine])
    def test_the_length_of_each_row_changes_nothing(self, number):
        rows = draw(30)
        assert number(rows * torch.linspace(0.1, 9, 30)[:, None]) == pytest.approx(number(rows))

    def test_a_common_length_changes_no_rank_but_isotropy(self):
        rows = draw(30)
        assert effective_rank(1000 * rows) == pytest.approx(effective_rank(rows))
        assert isotropy(rows / 1e6) == pytest.approx(1, abs=1e-4)
        assert isotropy(2 * rows) < isotropy(rows) < isotropy(rows / 2)

    def test_hidden_states_of_any_length_do_not_overflow(self):
        assert 0 <= isotropy(1000 * draw(30)) < 1e-9
        assert torch.isfinite(partition_values(1000 * draw(30))).all()

    def test_chunks_change_nothing(self, monkeypatch):
        rows = draw(30)
        whole = potential_values(rows)
        monkeypatch.setattr(geometry, "_CHUNK", 7)
        torch.testing.assert_close(potential_values(rows), whole)

    def test_more_spread_lowers_uniformity_and_raises_isotropy_and_rank(self):
        """Unit vectors around one direction: isotropy is near exp(-√(mean cosine)), as in SemPA's Table 5."""
        generator = torch.Generator().manual_seed(0)
        noise = unit(torch.randn(1500, 200, generator=generator, dtype=torch.float64))
        sets = [unit(math.sqrt(c) * torch.eye(200)[0] + math.sqrt(1 - c) * noise) for c in (0.81, 0.67, 0.42)]
        found = [[number(rows) for number in (uniformity, isotropy, effective_rank)] for rows in sets]
        assert [row[0] for row in found] == sorted((row[0] for row in found), reverse=True)
        assert [row[1] for row in found] == pytest.approx(
            [math.exp(-math.sqrt(mean_cosine(rows))) for rows in sets], abs=0.02
        )
        assert [row[2] for row in found] == sorted(row[2] for row in found)


class TestValuesOfSentences:
    @pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.__name__)
    @pytest.mark.parametrize("width", [6, 60])
    def test_their_mean_makes_the_number(self, number, width):
        rows = draw(30, width)
        values, combine = FROM_VALUES[number.__name__]
        assert combine(values(rows)) == pytest.approx(number(rows))

    def test_pair_values_are_jackknife_pseudo_values(self):
        rows = draw(12)
        without = [math.exp(uniformity(rows[torch.arange(12) != row])) for row in range(12)]
        expected = 12 * math.exp(uniformity(rows)) - 11 * torch.tensor(without, dtype=torch.float64)
        torch.testing.assert_close(potential_values(rows), expected)

    def test_entropy_values_are_derivatives_by_the_weight_of_a_sentence(self):
        rows, step = draw(12), 1e-6
        for row, value in enumerate(entropy_values(rows)):
            weights = torch.ones(12, 1, dtype=torch.float64)
            weights[row] = math.sqrt(1 + step)  # it stands in VᵀV 1 + step times
            slope = (math.log(effective_rank(weights * rows)) - math.log(effective_rank(rows))) / step
            assert value == pytest.approx(math.log(effective_rank(rows)) + 12 * slope, abs=1e-4)

    @pytest.mark.parametrize("name", FROM_VALUES)
    def test_their_bootstrap_gives_the_spread_over_fresh_samples(self, name):
        """A bootstrap of plain sentence means would give half of it for numbers of pairs."""
        values, combine = FROM_VALUES[name]
        number = getattr(geometry, name)
        fresh = [number(unit(draw(120, 4, seed))) for seed in range(150)]
        generator = torch.Generator().manual_seed(0)
        errors = []
        for seed in range(12):
            of_sentences = values(unit(draw(120, 4, seed)))
            samples = [combine(of_sentences[torch.randint(120, (120,), generator=generator)]) for _ in range(150)]
            errors.append(float(torch.stack(samples).std()))
        assert np.mean(errors) == pytest.approx(np.std(fresh), rel=0.25)
