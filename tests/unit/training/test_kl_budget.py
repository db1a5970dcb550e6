"""Which checkpoint a budget of KL leaves, from scores and divergences set by hand."""

import math

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from sempa_lightning.errors import UserError
from sempa_lightning.training.callbacks.kl_budget import BestWithinBudget
from sempa_lightning.training.checkpoints import best_score

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
]


class Counting(LightningModule):
    """A weight that is the number of steps taken; after each step it validates to what the lists say."""

    def __init__(self, logged):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.logged = logged

    def training_step(self, *_):
        return -self.weight

    def validation_step(self, *_):
        self.log_dict({name: values[self.global_step - 1] for name, values in self.logged.items()})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder, logged, *callbacks, budget=0.1, ckpt_path=None):
    best = BestWithinBudget("kl", budget, dirpath=folder, filename="best", monitor="sts", mode="max")
    best._enable_version_counter = False
    steps = len(next(iter(logged.values())))
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        val_check_interval=1,
        check_val_every_n_epoch=None,
        callbacks=[best, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loader = torch.utils.data.DataLoader(torch.zeros(steps))
    trainer.fit(Counting(logged), loader, torch.utils.data.DataLoader(torch.zeros(1)), ckpt_path=ckpt_path)
    return best, trainer


def kept(best):
    """The step whose weights are kept."""
    return float(torch.load(best.best_model_path, weights_only=True)["state_dict"]["weight"])


@pytest.mark.parametrize(
    ("sts", "kl", "step"),
    [
        ([0.5, 0.9, 0.7], [0.01, 0.2, 0.05], 3),  # the best of all is over budget
        ([0.5, 0.9, 0.7], [0.01, 0.1, 0.05], 2),  # a divergence of just the budget is within it
        ([0.5, 0.9, 0.7], [0.01, 0.2, 0.3], 1),
        ([0.5, 0.9, 0.4], [0.2, 0.2, 0.0], 3),  # it comes back into the budget
        ([-0.5, 0.9, 0.4], [0.0, 0.2, 0.2], 1),  # anything within it beats the start
        ([0.5, 0.9, 0.7], [0.01, math.nan, math.inf], 1),
    ],
)
def test_the_best_within_the_budget_is_kept(tmp_path, sts, kl, step):
    best, trainer = fit(tmp_path, {"sts": sts, "kl": kl})
    assert kept(best) == step
    assert best_score(trainer) == pytest.approx(sts[step - 1])
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_without_one_within_the_budget_the_start_is_kept(tmp_path):
    best, trainer = fit(tmp_path, {"sts": [0.5, 0.9], "kl": [0.2, 0.3]})
    assert kept(best) == 0
    assert best_score(trainer) == -math.inf


def test_a_run_that_goes_on_keeps_what_it_had(tmp_path):
    """The first validation after resuming is over budget, the last is not, and is worse than what was kept."""
    logged = {"sts": [0.5, 0.9, 0.4], "kl": [0.0, 0.2, 0.0]}
    _, trainer = fit(tmp_path, {name: values[:1] for name, values in logged.items()})
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    best, trainer = fit(tmp_path, logged, ckpt_path=tmp_path / "last.ckpt")
    assert trainer.global_step == 3
    assert kept(best) == 1
    assert best_score(trainer) == 0.5


def test_training_stops_when_the_budget_is_spent(tmp_path):
    """As conf/callbacks/kl_stop.yaml says it; rising divergence alone does not stop it."""
    stop = EarlyStopping("kl", mode="min", divergence_threshold=0.1, patience=math.inf)
    best, trainer = fit(tmp_path, {"sts": [0.5, 0.6, 0.9, 0.7], "kl": [0.01, 0.1, 0.2, 0.05]}, stop)
    assert trainer.global_step == 3
    assert kept(best) == 2


def test_a_budget_without_a_probe_of_the_divergence_is_told(tmp_path):
    with pytest.raises(UserError, match="reads kl, which no probe measures"):
        fit(tmp_path, {"sts": [0.5]})
