"""A joint objective is the weighted sum of its members."""

import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.models.adapters import FullFineTuning
from sempa_lightning.scoring.reference import Frozen, NoReference
from sempa_lightning.training.objectives.joint import Joint, Weighted
from sempa_lightning.training.objectives.next_token import NextToken
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.training.objectives.sft import Sft
from sempa_lightning.types import StepBatch, Terms, TextBatch


class Constant:
    """An objective of known value."""

    def __init__(self, value):
        self._value = value

    def __call__(self, policy, reference, step):  # noqa: ARG002 (the signature of objectives)
        for batch in step.micro_batches:
            losses = torch.full((len(batch.rows),), self._value)
            yield Terms(losses, {"loss": losses.sum(), "constant": losses.sum() * 2})


def test_weighted_sum(tiny_llama, batch):
    policy = FullFineTuning().attach(tiny_llama)
    step, reference = StepBatch([batch, batch], 2 * len(batch.rows), [1.0, 1.0]), Frozen(policy)
    preference = Preference(PlackettLuce(beta=0.5), nll_weight=1.0, kl_weight=0.0)
    joint = Joint({"preference": Weighted(preference, 3.0), "other": Weighted(Constant(5.0), 0.5)})
    both = list(joint(policy, reference, step))
    assert len(both) == 2
    for terms, alone in zip(both, preference(policy, reference, step), strict=True):
        torch.testing.assert_close(terms.losses, 3 * alone.losses + 2.5)
        torch.testing.assert_close(terms.metrics["loss"], terms.losses.detach().sum())
        torch.testing.assert_close(terms.metrics["loss/preference"], alone.losses.detach().sum())
        assert terms.metrics["loss/other"] == 5 * len(batch.rows)
        assert terms.metrics["constant"] == 10 * len(batch.rows)
        assert "rewards/margins" in terms.metrics


def test_a_term_that_comes_twice(tiny_llama, batch):
    joint = Joint({"one": Weighted(Constant(1.0), 1.0), "two": Weighted(Constant(2.0), 1.0)})
    with pytest.raises(UserError, match="two objectives have a term constant"):
        next(joint(tiny_llama, Frozen(tiny_llama), StepBatch([batch], len(batch.rows), [1.0])))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "a joint objective without members"),
        ({"one": Weighted(Constant(1.0), -1.0)}, r"^objective\.objectives\.one\.weight=-1\.0 is not at least 0$"),
    ],
)
def test_members_that_cannot_be(members, message):
    with pytest.raises(UserError, match=message):
        Joint(members)


def test_members_that_want_other_data(tiny_llama, batch):
    text = TextBatch(["a"], torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.bool))
    members = {"sft": Weighted(Sft(kl_weight=0.0), 1.0), "text": Weighted(NextToken(), 1.0)}
    for micro_batch, message in (
        (batch, "NextToken is trained on plain text, but the data are anchors with candidates: set data=wikipedia"),
        (text, "Sft is trained on anchors with candidates, but the data are plain text: set objective=next_token"),
    ):
        with pytest.raises(UserError, match=message):
            next(Joint(members)(tiny_llama, NoReference(tiny_llama), StepBatch([micro_batch], 1, [1.0])))
