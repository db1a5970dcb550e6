"""The preference objective: what its terms add up to, what is compared, and losses that see the whole step."""

import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.losses.bco import Bco
from sempa_lightning.losses.divergences import AlphaDivergence, JensenShannon, ReverseKl
from sempa_lightning.losses.hinge import Hinge
from sempa_lightning.losses.ipo import Ipo
from sempa_lightning.losses.mixture import Mixture
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.losses.sigmoid import Sigmoid
from sempa_lightning.losses.simpo import SimPo
from sempa_lightning.models.adapters import FullFineTuning, Lora
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded, pad
from sempa_lightning.scoring.reference import AdapterDisabled, Cached, Frozen, NoReference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.types import CandidateScores, StepBatch, TokenizedRow

LOSS = PlackettLuce(beta=0.5)
ROWS = [
    TokenizedRow("a", [0, 5, 6, 7], [[8, 9, 0], [10, 0]], 1),
    TokenizedRow("b", [0, 11], [[12, 0], [13, 14, 15, 0], [16, 0]], 1),
    TokenizedRow("c", [0, 5, 11], [[7, 9, 3, 2, 0], [12, 0], [4, 4, 0]], 2),
]


@pytest.fixture
def policy(tiny_llama):
    return FullFineTuning().attach(tiny_llama)


@pytest.fixture
def moved(policy):
    """A policy in double precision that has left its reference, and the reference."""
    reference = Frozen(policy.double())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return policy, reference


def step(*batches, layout=pad):
    return StepBatch([layout(rows, 0) for rows in batches], sum(map(len, batches)), [1.0] * len(batches))


def scores_of(policy, reference, batch, center=torch.nan):
    logps = completion_logps(policy, batch)
    ratios = logps - reference.logps(policy, batch)
    return CandidateScores(
        logps, ratios, batch.completion_lengths, batch.candidate_mask, batch.num_chosen, torch.tensor(center)
    )


@torch.no_grad()
def test_terms_add_up(moved, batch):
    policy, reference = moved
    logps = completion_logps(policy, batch)
    preference = LOSS(scores_of(policy, reference, batch))
    nll, kl = -logps[:, 0] / batch.completion_lengths[:, 0], unprompted_kl(policy, reference, batch)
    assert kl.min() > 0.01

    step = StepBatch([batch], size=len(batch.rows), weights=[1.0])
    (terms,) = Preference(LOSS, nll_weight=0.3, kl_weight=2.0)(policy, reference, step)
    torch.testing.assert_close(terms.losses, preference + 0.3 * nll + 2.0 * kl)
    sums = {"loss": terms.losses.sum(), "nll": nll.sum(), "kl": kl.sum()}
    for name, expected in sums.items():
        torch.testing.assert_close(terms.metrics[name], expected)

    (plain,) = Preference(LOSS, nll_weight=0.0, kl_weight=0.0)(policy, reference, step)
    torch.testing.assert_close(plain.losses, preference)
    assert "kl" not in plain.metrics, "what is not computed is not logged"


def test_a_row_without_rejected(policy, batch):
    rows = [batch.rows[0], batch.rows[1]._replace(completion_ids=batch.rows[1].completion_ids[:1])]
    step = StepBatch([pad(rows, 0)], size=2, weights=[1.0])
    with pytest.raises(UserError, match=r"row b has no rejected candidate in its step.*negatives\.given=true"):
        next(Preference(LOSS, nll_weight=0.0, kl_weight=0.0)(policy, Frozen(policy), step))


@torch.no_grad()
def test_rewards_are_of_log_ratios(moved):
    policy, reference = moved
    (terms,) = Preference(Ipo(beta=0.2), 0.0, 0.0)(policy, reference, step(ROWS))
    ratios = scores_of(policy, reference, pad(ROWS, 0)).log_ratios
    rejected = [ratios[0, 1], ratios[1, 1:].mean(), ratios[2, 2]]
    torch.testing.assert_close(terms.metrics["rewards/chosen"], 0.2 * ratios[:, 0].sum())
    torch.testing.assert_close(terms.metrics["rewards/rejected"], 0.2 * sum(rejected))


@torch.no_grad()
def test_a_loss_without_reference_scores_none(moved):
    policy, _ = moved
    loss = SimPo(beta=2.0, gamma=1.0)
    (terms,) = Preference(loss, 0.0, 0.0)(policy, NoReference(policy), step(ROWS))
    scores = scores_of(policy, Frozen(policy), pad(ROWS, 0))
    torch.testing.assert_close(terms.losses, loss(scores))
    means = scores.policy_logps[:, 0] / scores.completion_lengths[:, 0]
    torch.testing.assert_close(terms.metrics["rewards/chosen"], 2 * means.sum())


@pytest.mark.parametrize("tail_weight", [1.0, 0.5])
def test_a_loss_over_log_ratios_needs_a_reference(policy, tail_weight):
    with pytest.raises(UserError, match="reference=none"):
        next(Preference(LOSS, 0.0, 0.0, tail_weight=tail_weight)(policy, NoReference(policy), step(ROWS)))


@torch.no_grad()
def test_a_divergence_takes_the_place_of_the_log_ratios(moved):
    policy, reference = moved
    (terms,) = Preference(Hinge(beta=0.5), 0.0, 0.0, JensenShannon())(policy, reference, step(ROWS))
    scores = scores_of(policy, reference, pad(ROWS, 0))
    ratio = scores.log_ratios.exp()
    expected = Hinge(beta=0.5)(scores._replace(log_ratios=(2 * ratio / (1 + ratio)).log()))
    torch.testing.assert_close(terms.losses, expected)
    torch.testing.assert_close(terms.metrics["rewards/chosen"], 0.5 * scores.log_ratios[:, 0].sum())


def test_what_a_loss_has_no_use_for_is_refused():
    for loss in (Ipo(beta=0.1), Bco(beta=0.1), SimPo(beta=2.0, gamma=0.0)):
        Preference(loss, 0.0, 0.0, ReverseKl())
        with pytest.raises(UserError, match=f"^{type(loss).__name__} does not look at differences .*divergence="):
            Preference(loss, 0.0, 0.0, AlphaDivergence(1.0))
    with pytest.raises(UserError, match=r"SimPo takes no log-ratios, which objective\.tail_weight is for"):
        Preference(SimPo(beta=2.0, gamma=0.0), 0.0, 0.0, tail_weight=0.5)
    for tail_weight in (-0.1, 1.1):
        with pytest.raises(UserError, match=rf"objective\.tail_weight={tail_weight} is not from 0 to 1"):
            Preference(LOSS, 0.0, 0.0, tail_weight=tail_weight)


@torch.no_grad()
@pytest.mark.parametrize("layout", [Padded(), Packed(1000)])
@pytest.mark.parametrize("tail_weight", [0.0, 0.3])
def test_tails_count_less(moved, layout, tail_weight):
    """By a score for each token, out of completions that are cut: the shortest of rows a, b and c has 2 tokens."""
    policy, reference = moved
    heads = pad([row._replace(completion_ids=[ids[:2] for ids in row.completion_ids]) for row in ROWS], 0)
    ratios, head_ratios = (scores_of(policy, reference, batch).log_ratios for batch in (pad(ROWS, 0), heads))
    expected = tail_weight * ratios + (1 - tail_weight) * head_ratios
    assert (expected - ratios).abs().max() > 0.1
    scores = scores_of(policy, reference, pad(ROWS, 0))
    objective = Preference(LOSS, 1.0, 0.0, tail_weight=tail_weight)
    (terms,) = objective(policy, reference, step(ROWS, layout=layout))
    nll = -scores.policy_logps[:, 0] / scores.completion_lengths[:, 0]
    torch.testing.assert_close(terms.losses, LOSS(scores._replace(log_ratios=expected)) + nll)
    torch.testing.assert_close(terms.metrics["rewards/chosen"], 0.5 * expected[:, 0].sum())


def test_tails_do_not_take_sums_from_the_cache(tiny_llama, tmp_path):
    policy = Lora(2, 4, 0.0, "all-linear").attach(tiny_llama)
    cached = Cached(policy, AdapterDisabled, str(tmp_path))
    cached.logps(policy, pad(ROWS, 0))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    live, kept = (
        next(Preference(LOSS, 0.0, 0.0, tail_weight=0.5)(policy, reference, step(ROWS))).losses
        for reference in (AdapterDisabled(policy, trained=True), cached)
    )
    assert torch.equal(live, kept)
    assert live.requires_grad


def gradient(policy, reference, loss, step):
    policy.zero_grad()
    losses = []
    for terms in Preference(loss, 0.0, 0.0)(policy, reference, step):
        terms.losses.sum().backward()
        losses += terms.losses.tolist()
    return losses, torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    "loss", [Bco(beta=0.5), Mixture(0.5, {"one": Sigmoid(beta=0.5), "two": Bco(beta=0.5)}, {"one": 0.8, "two": 0.2})]
)
def test_pieces_of_a_step_add_up(moved, loss):
    policy, reference = moved
    losses, whole = gradient(policy, reference, loss, step(ROWS))
    ratios = scores_of(policy, reference, pad(ROWS, 0)).log_ratios
    rejected = torch.stack([ratios[0, 1], ratios[1, 1:].mean(), ratios[2, 2]])
    center = ((ratios[:, 0].mean() + rejected.mean()) / 2).item()
    assert abs(center) > 0.1
    expected = loss(scores_of(policy, reference, pad(ROWS, 0), center))
    assert losses == pytest.approx(expected.tolist(), abs=1e-6)
    for pieces in ([ROWS[:1], ROWS[1:]], [[row] for row in ROWS]):
        found, parts = gradient(policy, reference, loss, step(*pieces))
        assert found == pytest.approx(losses, abs=1e-9)
        assert (parts - whole).norm() < 1e-9 * whole.norm()
