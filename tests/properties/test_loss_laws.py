"""Laws that every preference loss of `conf/loss` must obey."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

FILES = sorted(Path(__file__).parents[2].glob("conf/loss/*.yaml"))
ANCHORS, CANDIDATES = 12, 5


def test_there_are_losses():
    assert {"plackett_luce", "plackett_luce_full"} <= {file.stem for file in FILES}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def loss(request):
    return instantiate(OmegaConf.load(request.param), _convert_="all")


@pytest.fixture
def batch():
    """Random log-ratios of a size that occurs, a ragged mask, one or two chosen."""
    generator = torch.Generator().manual_seed(0)
    log_ratios = 10 * torch.randn(ANCHORS, CANDIDATES, generator=generator, dtype=torch.float64)
    counts = torch.arange(ANCHORS) % (CANDIDATES - 2) + 3
    mask = torch.arange(CANDIDATES) < counts[:, None]
    return log_ratios.masked_fill(~mask, 0.0), mask, torch.arange(ANCHORS) % 2 + 1


def test_one_finite_loss_for_each_anchor(loss, batch):
    losses = loss(*batch)
    assert losses.shape == (ANCHORS,)
    assert losses.isfinite().all()


def test_raising_the_first_chosen_lowers_the_loss(loss, batch):
    log_ratios, mask, num_chosen = batch
    raised = log_ratios.clone()
    raised[:, 0] += 0.5
    assert (loss(raised, mask, num_chosen) < loss(log_ratios, mask, num_chosen)).all()


def test_raising_a_rejected_raises_the_loss(loss, batch):
    """Of the only rejected; among several, a full ranking may like it."""
    log_ratios, mask, num_chosen = batch
    pair, one = mask & (torch.arange(CANDIDATES) < 2), torch.ones_like(num_chosen)
    raised = log_ratios.clone()
    raised[:, 1] += 0.5
    assert (loss(raised, pair, one) > loss(log_ratios, pair, one)).all()


def test_a_constant_for_all_candidates_changes_nothing(loss, batch):
    log_ratios, mask, num_chosen = batch
    shifted = log_ratios + torch.linspace(-40, 40, ANCHORS, dtype=torch.float64)[:, None]
    torch.testing.assert_close(loss(shifted, mask, num_chosen), loss(log_ratios, mask, num_chosen))


def test_the_order_of_the_rejected_matters_to_a_full_ranking_only(loss, batch):
    log_ratios, mask, num_chosen = batch
    permuted = log_ratios.clone()
    for row, (count, chosen) in enumerate(zip(mask.sum(-1).tolist(), num_chosen.tolist(), strict=True)):
        permuted[row, chosen:count] = log_ratios[row, chosen:count].flip(0)
    before, after = loss(log_ratios, mask, num_chosen), loss(permuted, mask, num_chosen)
    if getattr(loss, "ranking", "top") == "full":
        several = mask.sum(-1) - num_chosen > 1
        assert (before[several] != after[several]).all()
    else:
        torch.testing.assert_close(after, before)


def test_an_anchor_does_not_depend_on_the_others(loss, batch):
    losses = loss(*batch)
    order = torch.randperm(ANCHORS, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loss(*(part[order] for part in batch)), losses[order])
    assert torch.equal(loss(*(part[:1] for part in batch)), losses[:1])


def test_absent_candidates_change_nothing(loss, batch):
    log_ratios, mask, num_chosen = batch
    leaf = torch.cat([log_ratios, torch.full((ANCHORS, 2), 1e3, dtype=torch.float64)], -1).requires_grad_()
    wider = torch.cat([mask, torch.zeros(ANCHORS, 2, dtype=torch.bool)], -1)
    losses = loss(leaf, wider, num_chosen)
    losses.sum().backward()
    torch.testing.assert_close(losses, loss(log_ratios, mask, num_chosen))
    assert torch.equal(leaf.grad[~wider], torch.zeros(int((~wider).sum()), dtype=torch.float64))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_log_ratios_stay_finite(loss, batch, size):
    _, mask, num_chosen = batch
    log_ratios = torch.zeros(mask.shape)
    log_ratios[:, 0] = size / loss.beta
    log_ratios.requires_grad_()
    losses = loss(log_ratios, mask, num_chosen)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert log_ratios.grad.isfinite().all()


def test_gradient_is_that_of_finite_differences(loss, batch):
    log_ratios, mask, num_chosen = batch
    leaf = (log_ratios / 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss(values, mask, num_chosen), (leaf,))


def test_inputs_are_not_changed(loss, batch):
    copies = [part.clone() for part in batch]
    loss(*batch)
    assert all(torch.equal(part, copy) for part, copy in zip(batch, copies, strict=True))
