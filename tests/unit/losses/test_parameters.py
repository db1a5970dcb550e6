"""Parameters that a loss cannot have are refused in a line that names them."""

import math

import pytest

from sempa_lightning.check import check, check_choice, check_weight
from sempa_lightning.errors import UserError
from sempa_lightning.losses.apo_down import ApoDown
from sempa_lightning.losses.apo_zero import ApoZero
from sempa_lightning.losses.bco import Bco
from sempa_lightning.losses.discopop import Discopop
from sempa_lightning.losses.divergences import AlphaDivergence
from sempa_lightning.losses.exo import Exo
from sempa_lightning.losses.hinge import Hinge
from sempa_lightning.losses.info_nce import InfoNce
from sempa_lightning.losses.ipo import Ipo
from sempa_lightning.losses.mixture import Mixture
from sempa_lightning.losses.nca import Nca
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.losses.robust import Robust
from sempa_lightning.losses.sigmoid import Sigmoid
from sempa_lightning.losses.sigmoid_norm import SigmoidNorm
from sempa_lightning.losses.simpo import SimPo
from sempa_lightning.losses.sppo import Sppo
from sempa_lightning.losses.wpo import Wpo

MORE = {
    Robust: {"label_smoothing": 0.1},
    Exo: {"label_smoothing": 0.1},
    Discopop: {"tau": 0.05},
    SimPo: {"gamma": 0.5},
}


@pytest.mark.parametrize(
    "loss",
    [PlackettLuce, Sigmoid, Robust, Hinge, Ipo, Nca, Bco, Sppo, ApoZero, ApoDown, Exo, Discopop, SigmoidNorm, SimPo],
)
@pytest.mark.parametrize("beta", [0.0, -0.1, math.inf, math.nan])
def test_beta(loss, beta):
    loss(beta=0.1, **MORE.get(loss, {}))
    with pytest.raises(UserError, match=rf"^loss\.beta={beta} is not above 0$"):
        loss(beta=beta, **MORE.get(loss, {}))


@pytest.mark.parametrize(
    ("build", "wrong", "message"),
    [
        (
            lambda share: Sigmoid(0.1, share),
            [-0.1, 0.5, 1.0],
            "loss.label_smoothing={} is not at least 0 and below 0.5",
        ),
        (lambda share: Robust(0.1, share), [-0.1, 0.5, 1.0], "loss.label_smoothing={} is not at least 0 and below 0.5"),
        (lambda share: Exo(0.1, share), [0.0, -0.1, 0.5], "loss.label_smoothing={} is not above 0 and below 0.5"),
        (lambda tau: Discopop(0.1, tau), [0.0, -1.0, 1.1], "loss.tau={} is not above 0 and at most 1"),
        (lambda gamma: SimPo(0.1, gamma), [-0.1, math.inf], "loss.gamma={} is not at least 0"),
        (InfoNce, [0.0, -0.05, math.inf, math.nan], "objective.loss.temperature={} is not above 0"),
        (
            lambda weight: InfoNce(0.05, weight),
            [math.inf, math.nan],
            "objective.loss.hard_negative_weight={} is not a finite number",
        ),
        (
            lambda weight: check_weight("objective.kl_weight", weight),
            [-0.1, math.inf],
            "objective.kl_weight={} is not at least 0",
        ),
        (AlphaDivergence, [0.0, -0.5, 1.5], "divergence.alpha={} is not above 0 and at most 1"),
        (lambda weight: Mixture(0.1, {"a": Nca(0.1)}, {"a": weight}), [0.0, -1.0], "loss.weights.a={} is not above 0"),
    ],
)
def test_others(build, wrong, message):
    build(0.25)
    for value in wrong:
        with pytest.raises(UserError) as error:
            build(value)
        assert str(error.value) == message.format(value)


@pytest.mark.parametrize("losses", [{}, {"a": Nca(0.1)}, {"a": Nca(0.1), "b": Nca(0.1), "c": Nca(0.1)}])
def test_a_mixture_of_other_names(losses):
    with pytest.raises(UserError, match=r"^loss\.weights are of \['a', 'b'\], but loss\.losses are "):
        Mixture(0.1, losses, {"a": 1.0, "b": 1.0})


def test_a_weighted_loss_of_another_beta():
    Wpo(0.1, Nca(0.1))
    with pytest.raises(UserError, match=r"^loss\.beta=0\.1, but loss\.loss\.beta=0\.3: set loss\.beta alone$"):
        Wpo(0.1, Nca(0.3))


@pytest.mark.parametrize("value", ["0.1", None, True])
def test_no_numbers(value):
    check("loss.beta", 1, lambda beta: beta > 0, "above 0")
    with pytest.raises(UserError, match=f"^loss.beta={value} is not above 0$"):
        check("loss.beta", value, lambda beta: beta > 0, "above 0")


@pytest.mark.parametrize("value", ["no", None, 0])
def test_no_switches(value):
    check_choice("objective.negatives", False)
    with pytest.raises(UserError, match=f"^objective.negatives={value} is neither true nor false$"):
        check_choice("objective.negatives", value)
