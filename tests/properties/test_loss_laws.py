"""Laws of the preference losses of `conf/loss`: some hold for every one, the others exactly where they are declared."""

import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sempa_lightning.losses import Law, PreferenceLoss
from sempa_lightning.types import CandidateScores

FILES = sorted(Path(__file__).parents[2].glob("conf/loss/*.yaml"))
CANDIDATES = 5


def load(file):
    return instantiate(OmegaConf.load(file), _convert_="all")


def test_there_are_losses():
    assert {"plackett_luce", "plackett_luce_full", "sigmoid", "simpo", "wpo", "mpo"} <= {file.stem for file in FILES}
    assert len(FILES) > 15


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def loss(request):
    return load(request.param)


@pytest.fixture(scope="module")
def scores():
    """Log-ratios from a tenth of a nat to 2,000, a ragged mask, one or two chosen, lengths of 1 to 30 tokens."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-1, 3.3, 120, dtype=torch.float64)
    shape = (len(sizes), CANDIDATES)
    counts = torch.arange(len(sizes)) % (CANDIDATES - 2) + 3
    mask = torch.arange(CANDIDATES) < counts[:, None]
    log_ratios = sizes[:, None] * torch.randn(shape, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, 31, shape, generator=generator)
    policy_logps = -lengths * (0.1 + torch.rand(shape, generator=generator, dtype=torch.float64))
    return CandidateScores(
        policy_logps.masked_fill(~mask, 0.0),
        log_ratios.masked_fill(~mask, 0.0),
        lengths.masked_fill(~mask, 0),
        mask,
        torch.arange(len(sizes)) % 2 + 1,
        torch.tensor(1.3, dtype=torch.float64),
    )


def moved(loss, scores, change):
    """Scores, changed: log-ratios, as if the reference had moved, or the policy's where there is no reference."""
    name = "policy_logps" if Law.REFERENCE_FREE in loss.laws else "log_ratios"
    return scores._replace(**{name: getattr(scores, name) + change})


def reordered(scores):
    """The rejected candidates of each anchor backwards."""
    order = torch.arange(CANDIDATES).repeat(len(scores.num_chosen), 1)
    counts = scores.candidate_mask.sum(-1).tolist()
    for row, (chosen, count) in enumerate(zip(scores.num_chosen.tolist(), counts, strict=True)):
        order[row, chosen:count] = order[row, chosen:count].flip(0)
    return scores._replace(**{name: getattr(scores, name).gather(1, order) for name in scores._fields[:3]})


def raised(loss, scores, column):
    """Half a nat more, and 50 nats more, for the candidate of a column where it is rejected or the first."""
    is_it = torch.arange(CANDIDATES) == column
    is_it = is_it & (scores.rejected_mask if column else scores.candidate_mask)
    return [loss(moved(loss, scores, size * is_it)) for size in (0.5, 50.0)]


def same(one, other):
    return torch.allclose(one, other, rtol=1e-6, atol=1e-6)


def never_above(one, other):
    return bool((one <= other + 1e-9 * (1 + other.abs())).all())


LAWS = {
    Law.CHOSEN_LOWERS: lambda loss, scores: all(never_above(one, loss(scores)) for one in raised(loss, scores, 0)),
    Law.REJECTED_RAISES: lambda loss, scores: all(
        never_above(loss(scores), one) for column in range(1, CANDIDATES) for one in raised(loss, scores, column)
    ),
    Law.NEVER_NEGATIVE: lambda loss, scores: bool((loss(scores) >= 0).all()),
    Law.SHIFT_FREE: lambda loss, scores: same(loss(moved(loss, scores, 7.0)), loss(scores)),
    Law.ORDER_FREE: lambda loss, scores: same(loss(reordered(scores)), loss(scores)),
    Law.LENGTH_FREE: lambda loss, scores: same(
        loss(scores._replace(completion_lengths=scores.completion_lengths.roll(1, 1) + 1)), loss(scores)
    ),
    Law.STEP_FREE: lambda loss, scores: same(loss(scores._replace(center=scores.center - 3)), loss(scores)),
    Law.REFERENCE_FREE: lambda loss, scores: same(
        loss(scores._replace(log_ratios=scores.log_ratios.roll(1, 0))), loss(scores)
    ),
}


@pytest.mark.parametrize("law", Law)
def test_a_law_holds_where_it_is_declared_and_nowhere_else(loss, scores, law):
    assert LAWS[law](loss, scores) == (law in loss.laws), law.value


@pytest.mark.parametrize("law", Law)
def test_each_law_is_declared_by_some_and_not_by_all(law):
    assert 0 < sum(law in load(file).laws for file in FILES) < len(FILES)


def test_every_loss_is_one(loss, scores):
    assert isinstance(loss, PreferenceLoss)
    losses = loss(scores)
    assert losses.shape == scores.num_chosen.shape
    assert losses.isfinite().all()


def test_a_higher_chosen_changes_the_loss(loss, scores):
    """Else nothing would be learned."""
    assert (raised(loss, scores, 0)[0] != loss(scores)).any()


def test_an_anchor_does_not_depend_on_the_others(loss, scores):
    losses = loss(scores)
    order = torch.randperm(len(losses), generator=torch.Generator().manual_seed(0))
    assert torch.equal(loss(CandidateScores(*(part[order] for part in scores[:5]), scores.center)), losses[order])
    assert torch.equal(loss(CandidateScores(*(part[:1] for part in scores[:5]), scores.center)), losses[:1])


@pytest.mark.parametrize("garbage", [0.0, 1e30, torch.inf, -torch.inf, torch.nan])
def test_absent_candidates_change_nothing(loss, scores, garbage):
    wider = [torch.cat([part, part.new_zeros(len(part), 2)], -1) for part in scores[:4]]
    absent = ~wider[3]
    leaves = [part.masked_fill(absent, garbage).requires_grad_() for part in wider[:2]]
    losses = loss(CandidateScores(*leaves, *wider[2:], *scores[4:]))
    torch.testing.assert_close(losses, loss(scores))
    losses.sum().backward()
    found = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert len(found) == 1, "gradients flow to log-ratios, or to the policy alone, and weights have none"
    assert torch.equal(found[0][absent], torch.zeros(int(absent.sum()), dtype=torch.float64))
    assert found[0].isfinite().all()


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("column", [0, 1])
def test_large_scores_stay_finite(loss, scores, size, column):
    num_chosen = torch.ones_like(scores.num_chosen)
    change = torch.zeros(scores.candidate_mask.shape)
    change[:, column] = size / loss.beta
    change.requires_grad_()
    start = CandidateScores(*(part.float() * 0 for part in scores[:2]), *scores[2:4], num_chosen, torch.tensor(0.0))
    losses = loss(moved(loss, start, change))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert change.grad.isfinite().all()


def test_gradient_is_that_of_finite_differences(loss, scores):
    start = CandidateScores(*(part[40:50] for part in scores[:5]), scores.center)
    change = torch.zeros(start.candidate_mask.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda change: loss(moved(loss, start, change)), (change,))


def test_inputs_are_not_changed(loss, scores):
    copies = [part.clone() for part in scores]
    loss(scores)
    assert all(torch.equal(part, copy) for part, copy in zip(scores, copies, strict=True))


def test_the_documented_laws_are_the_declared_ones():
    page = (Path(__file__).parents[2] / "docs" / "method.md").read_text()
    letters = dict(zip("CRNSOLTF", Law, strict=True))
    found = dict(re.findall(r"^\| `(\w+)` \|.*\| ([CRNSOLTF]+) \|$", page, re.MULTILINE))
    assert found.keys() == {file.stem for file in FILES}
    for file in FILES:
        assert {letters[letter] for letter in found[file.stem]} == load(file).laws, file.stem
