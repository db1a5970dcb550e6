"""The formula: against a slow loop, against DPO, and at the points where its value is known by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from sempa_lightning.errors import UserError
from sempa_lightning.losses.plackett_luce import PlackettLuce, plackett_luce


def slow_loss(scores, num_factors):
    """-log of a product of softmaxes over what remains, for one anchor's live candidates, in float64."""
    scores = scores.double()
    likelihood = torch.ones((), dtype=torch.float64)
    for k in range(num_factors):
        total = torch.zeros((), dtype=torch.float64)
        for j in range(k, len(scores)):
            total = total + scores[j].exp()
        likelihood = likelihood * scores[k].exp() / total
    return -likelihood.log()


def all_live(anchors, candidates):
    return torch.ones(anchors, candidates, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("candidates", [2, 3, 4, 8])
def test_equals_the_slow_loop(seed, candidates):
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(16, candidates, generator=generator, dtype=torch.float64)
    num_factors = torch.randint(1, candidates + 1, (16,), generator=generator)
    expected = torch.stack([slow_loss(row, int(m)) for row, m in zip(scores, num_factors, strict=True)])
    torch.testing.assert_close(plackett_luce(scores, all_live(16, candidates), num_factors), expected)


def test_ragged_rows_equal_the_rows_without_padding():
    generator = torch.Generator().manual_seed(0)
    counts, num_factors = [2, 5, 3, 4], [1, 2, 3, 1]
    scores = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor(counts)[:, None]
    losses = plackett_luce(scores, mask, torch.tensor(num_factors))
    for row, (count, factors) in enumerate(zip(counts, num_factors, strict=True)):
        alone = plackett_luce(scores[row : row + 1, :count], all_live(1, count), torch.tensor([factors]))
        assert losses[row] == alone[0]
        torch.testing.assert_close(losses[row], slow_loss(scores[row, :count], factors))


@pytest.mark.parametrize("garbage", [0.0, 1e30, -1e30, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("ranking", ["top", "full"])
def test_absent_candidates_do_not_matter(garbage, ranking, scores_of):
    values = torch.tensor([[0.3, -1.2, 0.0, 0.0], [0.1, 0.4, -0.2, 0.9]])
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    loss = PlackettLuce(beta=0.5, ranking=ranking)

    def run(values):
        leaf = values.clone().requires_grad_()
        losses = loss(scores_of(leaf, mask))
        losses.sum().backward()
        return losses.detach(), leaf.grad

    clean, dirty = run(values), run(values.masked_fill(~mask, garbage))
    assert torch.equal(dirty[0], clean[0])
    assert torch.equal(dirty[1], clean[1])
    assert torch.equal(dirty[1][~mask], torch.zeros(2))
    assert (dirty[1][mask] != 0).all()


@pytest.mark.parametrize("score", [-1e30, 1e30])
def test_absent_candidates_do_not_matter_at_any_size_of_the_scores(score):
    """Two live candidates with equal scores: ln 2, however low they are."""
    mask = torch.tensor([[True, True, False]])
    losses = plackett_luce(torch.full((1, 3), score), mask, torch.tensor([1]))
    assert losses.item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("candidates", [2, 3, 4, 8])
def test_policy_equal_to_reference_gives_ln_k(candidates, scores_of):
    zeros = scores_of(torch.zeros(3, candidates))
    top = PlackettLuce(beta=0.1)(zeros)
    full = PlackettLuce(beta=0.1, ranking="full")(zeros)
    assert top.dtype == torch.float32
    assert top.tolist() == pytest.approx([math.log(candidates)] * 3, abs=1e-6)
    assert full.tolist() == pytest.approx([math.log(math.factorial(candidates))] * 3, rel=1e-6)


@pytest.mark.parametrize("ranking", ["top", "full"])
def test_two_candidates_are_dpo(ranking, scores_of):
    """DPO: -ln sigmoid(beta * (log-ratio of chosen - log-ratio of rejected)).

    By hand at beta 0.1. Log-ratios (0, 0), (0.1, -9.9), (-0.9, -20.9), (-5, 15): differences 0, 10, 20, -20,
    so ln(1 + e^0) = 0.693147, ln(1 + e^-1) = 0.313262, ln(1 + e^-2) = 0.126928, ln(1 + e^2) = 2.126928.
    """
    log_ratios = torch.tensor([[0.0, 0.0], [0.1, -9.9], [-0.9, -20.9], [-5.0, 15.0]])
    losses = PlackettLuce(beta=0.1, ranking=ranking)(scores_of(log_ratios))
    assert losses.tolist() == pytest.approx([0.693147, 0.313262, 0.126928, 2.126928], abs=1e-6)

    many = 50 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
    losses = PlackettLuce(beta=0.1, ranking=ranking)(scores_of(many))
    torch.testing.assert_close(losses, -F.logsigmoid(0.1 * (many[:, 0] - many[:, 1])), rtol=1e-5, atol=2e-6)


def test_several_rejected_are_softmax_dpo():
    """One chosen: ln(1 + sum over rejected of exp(s_k - s_chosen)).

    By hand: scores 0, ln 2, ln 3 give ln(1 + 2 + 3) = ln 6.
    """
    scores = torch.tensor([[0.0, math.log(2), math.log(3)]])
    assert plackett_luce(scores, all_live(1, 3), torch.tensor([1])).item() == pytest.approx(math.log(6), abs=1e-6)


def test_several_chosen_keep_one_factor_each(scores_of):
    """Two of three chosen, scores ln 1, ln 2, ln 3: -ln(1/6 * 2/5) = ln 15, and the third factor is 1."""
    log_ratios = torch.tensor([[0.0, math.log(2), math.log(3)]]) / 0.1
    top, full = PlackettLuce(beta=0.1), PlackettLuce(beta=0.1, ranking="full")
    for loss, num_chosen in ((top, 2), (full, 1), (full, 2), (top, 3)):
        value = loss(scores_of(log_ratios, num_chosen=num_chosen)).item()
        assert value == pytest.approx(math.log(15), abs=1e-5)
    assert top(scores_of(log_ratios)).item() == pytest.approx(math.log(6), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_gaps_stay_finite_with_exact_gradients(dtype, scores_of):
    """At ±1e4 a softmax is 0 or 1, so that the gradient is 0 (won) or ∓beta (lost): nothing between."""
    beta = 0.1
    log_ratios = torch.tensor([[1e5, -1e5], [-1e5, 1e5], [1e4, -1e4], [-1e4, 1e4]], dtype=dtype, requires_grad=True)
    losses = PlackettLuce(beta)(scores_of(log_ratios))
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0, 2e4, 0, 2e3], rel=1e-6)
    expected = torch.tensor([[0, 0], [-beta, beta], [0, 0], [-beta, beta]], dtype=dtype)
    assert torch.equal(log_ratios.grad, expected)


@pytest.mark.parametrize("factors", [1, 2, 4])
def test_gradient_is_that_of_finite_differences(factors):
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    mask = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    num_factors = torch.tensor([factors, 1, min(factors, 3)])
    assert torch.autograd.gradcheck(lambda s: plackett_luce(s, mask, num_factors), (scores,))


def test_a_ranking_that_is_none():
    """As it comes from a command line: the run-time checks of these tests would stop it in the constructor."""
    loss = PlackettLuce(beta=0.1)
    object.__setattr__(loss, "ranking", "best")
    with pytest.raises(UserError, match=r"loss\.ranking=best is neither top nor full"):
        loss.__post_init__()
