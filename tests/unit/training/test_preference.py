"""The preference objective: what its terms add up to."""

import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.models.adapters import FullFineTuning
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import Frozen
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.types import StepBatch

LOSS = PlackettLuce(beta=0.5)


@pytest.fixture
def policy(tiny_llama):
    return FullFineTuning().attach(tiny_llama)


@torch.no_grad()
def test_terms_add_up(policy, batch):
    reference = Frozen(policy)
    for parameter in policy.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    logps = completion_logps(policy, batch)
    preference = LOSS(logps - reference.logps(policy, batch), batch.candidate_mask, batch.num_chosen)
    nll, kl = -logps[:, 0] / batch.completion_lengths[:, 0], unprompted_kl(policy, reference, batch)
    assert kl.min() > 0.01

    step = StepBatch([batch], size=len(batch.rows), weight=1.0)
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
    step = StepBatch([pad(rows, 0)], size=2, weight=1.0)
    with pytest.raises(UserError, match=r"row b has no rejected candidate in its step.*negatives\.given=true"):
        next(Preference(LOSS, nll_weight=0.0, kl_weight=0.0)(policy, Frozen(policy), step))
