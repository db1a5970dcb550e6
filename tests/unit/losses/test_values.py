"""Every loss of `conf/loss` where its value is known, and against its formula, written out for one anchor in floats."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sempa_lightning import train

FILES = {file.stem: file for file in (Path(train.__file__).parents[2] / "conf" / "loss").glob("*.yaml")}

# Policy and reference agree, one rejected: by hand, with β 0.1 (SimPO: equal log-probabilities per token, gamma 1).
AT_THE_START = {
    "plackett_luce": 0.693147,  # ln 2
    "plackett_luce_full": 0.693147,
    "sigmoid": 0.693147,
    "cdpo": 0.693147,
    "robust": 0.693147,
    "sigmoid_norm": 0.693147,
    "nca": 1.386294,  # 2 ln 2
    "bco": 1.386294,
    "hinge": 1.0,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "ipo": 25.0,  # (1 / 0.2)²
    "sppo": 50.0,  # twice that
    "discopop": 0.846574,  # (ln 2 + 1) / 2
    "exo": 2.761231,  # -ln 2 - ½ ln 0.999 - ½ ln 0.001
    "simpo": 1.313262,  # ln(1 + e)
    "wpo": 0.001718,  # ln 2 · e^-3 · e^-3
    "mpo": 0.831777,  # 0.8 ln 2 + 0.2 · 2 ln 2
}
# The same with three candidates, where it is another value.
OF_THREE = {
    "plackett_luce": 1.098612,  # ln 3
    "plackett_luce_full": 1.791759,  # ln 3!
    "exo": 3.968990,  # -ln 3 - ⅓ ln 0.999 - ⅔ ln 0.0005
    "simpo": 1.861995,  # ln(1 + 2e)
}
BETA = 0.1


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x):
    """-ln sigmoid(-x)."""
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def ranking(scores, factors):
    """-ln of the Plackett-Luce likelihood of the first places."""
    return sum(math.log(sum(math.exp(s - scores[k]) for s in scores[k:])) for k in range(factors))


def exo(rewards, chosen, epsilon=1e-3):
    total = sum(map(math.exp, rewards))
    labels = [(1 - epsilon) / chosen if j < chosen else epsilon / (len(rewards) - chosen) for j in range(len(rewards))]
    shares = [math.exp(s) / total for s in rewards]
    return sum(q * math.log(q / p) for q, p in zip(shares, labels, strict=True))


def discopop(m):
    share = sigmoid(m / 0.05)
    return softplus(-m) * (1 - share) + math.exp(-m) * share


def of_pairs(pair):
    """A formula of the first chosen's log-ratio and a rejected one's, averaged over the rejected."""
    return lambda a: mean(pair(a.r[0], r) for r in a.r[a.chosen :])


def of_margins(pair):
    """A formula of the margin of the implicit rewards, averaged over the rejected."""
    return of_pairs(lambda w, l: pair(BETA * (w - l)))  # noqa: E741


FORMULAS = {
    "plackett_luce": lambda a: ranking([BETA * r for r in a.r], a.chosen),
    "plackett_luce_full": lambda a: ranking([BETA * r for r in a.r], len(a.r)),
    "sigmoid": of_margins(lambda m: softplus(-m)),
    "cdpo": of_margins(lambda m: 0.9 * softplus(-m) + 0.1 * softplus(m)),
    "robust": of_margins(lambda m: (0.9 * softplus(-m) - 0.1 * softplus(m)) / 0.8),
    "hinge": of_margins(lambda m: max(0, 1 - m)),
    "discopop": of_margins(discopop),
    "nca": lambda a: mean(softplus(-BETA * r) for r in a.r[: a.chosen]) + mean(softplus(BETA * r) for r in a.r),
    "bco": of_pairs(lambda w, l: softplus(-BETA * (w - 2)) + softplus(BETA * (l - 2))),  # noqa: E741
    "sppo": of_pairs(lambda w, l: (w - 5) ** 2 + (l + 5) ** 2),  # noqa: E741
    "apo_zero": of_pairs(lambda w, l: 1 - sigmoid(BETA * w) + sigmoid(BETA * l)),  # noqa: E741
    "apo_down": of_pairs(lambda w, l: sigmoid(BETA * w) + 1 - sigmoid(BETA * (w - l))),  # noqa: E741
    "exo": lambda a: exo([BETA * r for r in a.r], a.chosen),
    "ipo": lambda a: mean((a.r[0] / a.n[0] - r / n - 5) ** 2 for r, n in a.rejected()),
    "sigmoid_norm": lambda a: mean(softplus(-5 * (a.r[0] / a.n[0] - r / n)) for r, n in a.rejected()),
    "simpo": lambda a: ranking(
        [2 * p / n + (j >= a.chosen) for j, (p, n) in enumerate(zip(a.p, a.n, strict=True))], a.chosen
    ),
    "wpo": lambda a: mean(
        math.exp(a.p[0] / a.n[0] + a.p[j] / a.n[j]) * softplus(-BETA * (a.r[0] - a.r[j]))
        for j in range(a.chosen, len(a.r))
    ),
    "mpo": lambda a: 0.8 * FORMULAS["sigmoid"](a) + 0.2 * FORMULAS["bco"](a),
}


class Anchor:
    """One anchor of a batch as lists of floats: log-ratios, log-probabilities, lengths of its candidates."""

    def __init__(self, scores, row):
        count = int(scores.candidate_mask[row].sum())
        self.p, self.r, self.n = (part[row, :count].tolist() for part in scores[:3])
        self.chosen = int(scores.num_chosen[row])

    def rejected(self):
        return zip(self.r[self.chosen :], self.n[self.chosen :], strict=True)


def load(name, **changes):
    return instantiate(OmegaConf.merge(OmegaConf.load(FILES[name]), changes), _convert_="all")


def test_every_loss_is_in_the_tables():
    assert AT_THE_START.keys() == FORMULAS.keys() == FILES.keys()


@pytest.mark.parametrize("name", AT_THE_START)
def test_where_policy_and_reference_agree(name, scores_of):
    loss = load(name)
    for candidates, value in ((2, AT_THE_START[name]), (3, OF_THREE.get(name, AT_THE_START[name]))):
        zeros, lengths = torch.zeros(2, candidates), torch.tensor([[2] * candidates, [7] * candidates])
        losses = loss(scores_of(zeros, lengths=lengths, policy_logps=-3.0 * lengths))
        assert losses.dtype == torch.float32
        assert losses.tolist() == pytest.approx([value] * 2, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_one_beta_on_the_command_line_reaches_every_part(name, scores_of):
    """Doubled, it does to the loss what doubled scores do."""
    log_ratios = torch.tensor([[3.0, -1.0, 0.5], [-2.0, 4.0, 1.0]], dtype=torch.float64)
    loss, doubled = load(name), load(name, beta=2 * load(name).beta)
    assert doubled.beta == 2 * loss.beta
    scores = scores_of(log_ratios, policy_logps=log_ratios - 5, center=0.7)
    twice = scores._replace(
        log_ratios=2 * log_ratios,
        policy_logps=scores.policy_logps * (2 if name == "simpo" else 1),  # weights of WPO have no beta
        center=2 * scores.center,
    )
    factor = 4 if name in ("ipo", "sppo") else 1  # (r - 1 / 4β)² = (2r - 1 / 2β)² / 4
    torch.testing.assert_close(factor * doubled(scores), loss(twice))


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("candidates", [2, 5])
def test_random_values_against_the_formula(name, candidates, scores_of):
    generator = torch.Generator().manual_seed(candidates)
    log_ratios = 15 * torch.randn(20, candidates, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, 20, log_ratios.shape, generator=generator)
    policy_logps = -lengths * (0.1 + torch.rand(log_ratios.shape, generator=generator, dtype=torch.float64))
    mask = torch.arange(candidates) < torch.randint(2, candidates + 1, (20, 1), generator=generator)
    scores = scores_of(log_ratios, mask, lengths=lengths, policy_logps=policy_logps, center=2.0)
    scores = scores._replace(num_chosen=(mask.sum(-1) > 2) + 1)
    expected = [FORMULAS[name](Anchor(scores, row)) for row in range(20)]
    assert load(name)(scores).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
