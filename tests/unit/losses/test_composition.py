"""Losses made of losses: means over pairs, weighted pairs, mixtures; and divergences in place of log-ratios."""

import math

import pytest
import torch

from sempa_lightning.losses import Law
from sempa_lightning.losses.bco import Bco
from sempa_lightning.losses.divergences import AlphaDivergence, Divergence, JensenShannon, ReverseKl
from sempa_lightning.losses.hinge import Hinge
from sempa_lightning.losses.mixture import Mixture
from sempa_lightning.losses.nca import Nca
from sempa_lightning.losses.pairs import as_pairs
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.losses.sigmoid import Sigmoid
from sempa_lightning.losses.simpo import SimPo
from sempa_lightning.losses.wpo import Wpo


def random_scores(scores_of, candidates):
    generator = torch.Generator().manual_seed(0)
    log_ratios = 10 * torch.randn(6, candidates, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, 9, log_ratios.shape, generator=generator)
    logps = -torch.rand(log_ratios.shape, generator=generator, dtype=torch.float64) * lengths
    return scores_of(log_ratios, lengths=lengths, policy_logps=logps, center=0.7)


def test_pairs_by_hand(scores_of):
    mask = torch.tensor([[True, True, True], [True, True, False]])
    log_ratios, logps = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[-1.0, -2, -3], [-4, -5, -6]])
    lengths = torch.tensor([[1, 2, 3], [4, 5, 0]])
    scores = scores_of(log_ratios, mask, lengths=lengths, policy_logps=logps, center=9.0)
    pairs = as_pairs(scores._replace(num_chosen=torch.tensor([2, 1])))
    assert pairs.log_ratios.tolist() == [[1, 1], [1, 1], [1, 3], [4, 4], [4, 5], [4, 4]]
    assert pairs.policy_logps.tolist() == [[-1, -1], [-1, -1], [-1, -3], [-4, -4], [-4, -5], [-4, -4]]
    assert pairs.completion_lengths.tolist() == [[1, 1], [1, 1], [1, 3], [4, 4], [4, 5], [4, 4]]
    assert pairs.candidate_mask.all()
    assert pairs.num_chosen.tolist() == [1] * 6
    assert pairs.center == 9


@pytest.mark.parametrize("loss", [Sigmoid(beta=0.3, label_smoothing=0.1), Nca(beta=0.3), SimPo(beta=2.0, gamma=1.0)])
def test_wpo_weighs_each_pair_without_gradient(scores_of, loss):
    scores = random_scores(scores_of, 4)
    leaf = scores.policy_logps.clone().requires_grad_()
    ratios = scores.log_ratios.clone().requires_grad_()
    found = Wpo(loss.beta, loss)(scores._replace(policy_logps=leaf, log_ratios=ratios))
    expected, gradients = torch.zeros(6, dtype=torch.float64), torch.zeros_like(ratios)
    name = "policy_logps" if Law.REFERENCE_FREE in loss.laws else "log_ratios"
    for anchor in range(6):
        for rejected in (1, 2, 3):
            pair = [0, rejected]
            means = scores.policy_logps[anchor, pair] / scores.completion_lengths[anchor, pair]
            weight = math.exp(means.sum()) / 3
            parts = {part: getattr(scores, part)[anchor : anchor + 1, pair] for part in scores._fields[:4]}
            parts[name] = parts[name].clone().requires_grad_()
            of_pair = loss(scores._replace(**parts, num_chosen=torch.tensor([1])))
            expected[anchor] += weight * of_pair.item()
            of_pair.backward()
            gradients[anchor, pair] += weight * parts[name].grad[0]
    torch.testing.assert_close(found.detach(), expected)
    found.sum().backward()
    torch.testing.assert_close((leaf if name == "policy_logps" else ratios).grad, gradients)
    assert (ratios if name == "policy_logps" else leaf).grad is None


def test_wpo_of_plackett_luce_is_that_of_dpo(scores_of):
    scores = random_scores(scores_of, 4)
    one, other = Wpo(0.3, PlackettLuce(beta=0.3))(scores), Wpo(0.3, Sigmoid(beta=0.3))(scores)
    torch.testing.assert_close(one, other)


def test_what_wpo_is_of(scores_of):
    assert Wpo(0.3, Hinge(beta=0.3)).laws == Hinge.laws - {Law.LENGTH_FREE}
    assert Wpo(2.0, SimPo(beta=2.0, gamma=0.0)).laws == {
        Law.NEVER_NEGATIVE, Law.ORDER_FREE, Law.STEP_FREE, Law.REFERENCE_FREE
    }  # fmt: skip


def test_a_mixture_is_the_weighted_sum_and_so_is_its_gradient(scores_of):
    members, weights = {"a": Sigmoid(beta=0.3), "b": Bco(beta=0.1), "c": Nca(beta=0.2)}, {"a": 0.8, "b": 0.2, "c": 3.0}

    def run(loss):
        leaf = random_scores(scores_of, 4).log_ratios.requires_grad_()
        losses = loss(random_scores(scores_of, 4)._replace(log_ratios=leaf))
        losses.sum().backward()
        return losses.detach(), leaf.grad

    alone = {name: run(loss) for name, loss in members.items()}
    mixture = Mixture(0.4, members, weights)
    for found, part in zip(run(mixture), (0, 1), strict=True):
        torch.testing.assert_close(found, sum(weights[name] * alone[name][part] for name in members))
    assert mixture.laws == {Law.REJECTED_RAISES, Law.NEVER_NEGATIVE, Law.ORDER_FREE, Law.LENGTH_FREE}


# f of each divergence of f-DPO (Wang et al. 2023, Table 1); what takes the place of the log-ratio is its derivative.
GENERATORS = {
    "reverse KL": (ReverseKl(), lambda u: u * math.log(u)),
    "forward KL": (AlphaDivergence(1.0), lambda u: -math.log(u)),
    "alpha 0.3": (AlphaDivergence(0.3), lambda u: (u**0.7 - 0.7 * u - 0.3) / (0.3 * -0.7)),
    "Jensen-Shannon": (JensenShannon(), lambda u: u * math.log(u) - (u + 1) * math.log((u + 1) / 2)),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_divergence_is_the_derivative_of_its_generator(name):
    """Up to a constant, which is the prompt's."""
    divergence, generator = GENERATORS[name]
    assert isinstance(divergence, Divergence)

    def slope(u, width=1e-5):
        return (generator(u + width) - generator(u - width)) / (2 * width)

    ratios = [0.2, 0.7, 1.0, 1.5, 6.0]
    found = divergence(torch.tensor([ratios], dtype=torch.float64).log())[0]
    assert found[2] == 0
    assert found.tolist() == pytest.approx([slope(u) - slope(1.0) for u in ratios], abs=1e-8)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_divergence_stays_finite(name):
    divergence, _ = GENERATORS[name]
    leaf = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    rewards = divergence(leaf)
    assert rewards.isfinite().all()
    rewards.sum().backward()
    assert leaf.grad.isfinite().all()
    assert leaf.grad[0, 2] == pytest.approx(0.5 if name == "Jensen-Shannon" else 1.0)


def test_a_small_alpha_is_almost_the_log_ratio():
    log_ratios = torch.linspace(-3, 3, 7, dtype=torch.float64)[None]
    torch.testing.assert_close(AlphaDivergence(1e-6)(log_ratios), log_ratios, rtol=1e-5, atol=1e-5)
