"""Supervised fine-tuning: against the loss that Hugging Face computes, one text at a time."""

import pytest
import torch

from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.models.adapters import FullFineTuning
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import Frozen, NoReference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.training.objectives.joint import Joint, Weighted
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.training.objectives.sft import Sft
from sempa_lightning.types import StepBatch, TokenizedRow

# One chosen and none rejected; two chosen and one rejected.
ROWS = [
    TokenizedRow("a", [0, 5, 6, 7], [[8, 9, 40, 0]], 1),
    TokenizedRow("b", [0, 11], [[12, 0], [13, 14, 15, 0], [16, 0]], 2),
]


@pytest.fixture
def policy(tiny_llama):
    return FullFineTuning().attach(tiny_llama)


def gradients(policy):
    return {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}


@pytest.mark.parametrize("layout", [pad, Packed(1000)], ids=["padded", "packed"])
def test_equals_the_loss_of_hugging_face(policy, layout):
    """`labels` of -100 are not counted; the loss is the mean over the others. Two chosen count by their tokens."""
    expected = []
    for row in ROWS:
        summed = 0.0
        for completion in row.completion_ids[: row.num_chosen]:
            labels = torch.tensor([[-100] * len(row.prompt_ids) + completion])
            output = policy(input_ids=torch.tensor([row.prompt_ids + completion]), labels=labels)
            summed = summed + output.loss * len(completion)
        expected.append(summed / sum(map(len, row.completion_ids[: row.num_chosen])))
    policy.zero_grad()
    torch.stack(expected).mean().backward()
    wanted = gradients(policy)

    policy.zero_grad()
    step = StepBatch([layout(ROWS, 0)], size=2, weights=[1.0])
    (terms,) = Sft(kl_weight=0.0)(policy, NoReference(policy), step)
    (terms.losses.sum() / step.size).backward()
    torch.testing.assert_close(terms.losses, torch.stack(expected), rtol=1e-5, atol=1e-5)
    for name, gradient in gradients(policy).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_metrics_are_named_as_those_of_preferences(policy, batch):
    """With one chosen candidate `nll` is that of the preference objective, too."""
    step, reference = StepBatch([batch], size=2, weights=[1.0]), Frozen(policy)
    (sft,) = Sft(kl_weight=0.0)(policy, reference, step)
    (preference,) = Preference(PlackettLuce(beta=0.1), nll_weight=0.0, kl_weight=0.0)(policy, reference, step)
    assert sft.metrics.keys() == {"loss", "nll", "logps/chosen"}
    torch.testing.assert_close(sft.metrics["loss"], preference.metrics["nll"])
    for name in ("nll", "logps/chosen"):
        torch.testing.assert_close(sft.metrics[name], preference.metrics[name])


def test_the_divergence_is_added(policy, batch):
    step, reference = StepBatch([batch], size=2, weights=[1.0]), Frozen(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    (plain,), (held,) = (list(Sft(kl_weight=weight)(policy, reference, step)) for weight in (0.0, 3.0))
    kl = unprompted_kl(policy, reference, batch)
    assert kl.min() > 0.01
    torch.testing.assert_close(held.losses, plain.losses + 3.0 * kl)
    torch.testing.assert_close(held.metrics["loss"], held.losses.detach().sum())
    torch.testing.assert_close(held.metrics["kl"], kl.detach().sum())


def test_a_joint_objective_holds_it(policy, batch):
    step, reference = StepBatch([batch], size=2, weights=[1.0]), NoReference(policy)
    (alone,) = Sft(kl_weight=0.0)(policy, reference, step)
    (joint,) = Joint({"sft": Weighted(Sft(kl_weight=0.0), 0.5)})(policy, reference, step)
    torch.testing.assert_close(joint.losses, 0.5 * alone.losses)
    torch.testing.assert_close(joint.metrics["loss/sft"], alone.metrics["loss"])
