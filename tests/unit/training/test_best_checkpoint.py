"""Which checkpoint is the best one: the metric's name, or `monitor_mode`, says which way is better."""

import pytest
import torch
from lightning import LightningModule, Trainer

from sempa_lightning.entry import conf_dir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.monitor import monitor_mode
from sempa_lightning.sweeps.trial import objectives
from sempa_lightning.training.callbacks.best_checkpoint import BestCheckpoint
from sempa_lightning.training.checkpoints import best_score

VALUES = [3.0, 1.0, 2.0]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]


class Counting(LightningModule):
    """Validates to one value of the metric after each step."""

    def __init__(self, metric):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.metric = metric

    def training_step(self, *_):
        return -self.weight

    def validation_step(self, *_):
        self.log(self.metric, VALUES[self.global_step - 1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder, name, monitor, mode=None):
    best = BestCheckpoint(monitor, mode, dirpath=folder, filename="best", enable_version_counter=False)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=len(VALUES),
        val_check_interval=1,
        check_val_every_n_epoch=None,
        callbacks=[best],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loaders = [torch.utils.data.DataLoader(torch.zeros(number)) for number in (len(VALUES), 1)]
    trainer.fit(Counting(name), *loaders)
    state = torch.load(best.best_model_path, weights_only=True)
    return best_score(trainer), state["global_step"]


@pytest.mark.parametrize(
    ("monitor", "mode", "kept"),
    [
        ("val/loss", None, (1.0, 2)),
        ("eval/generation/dev/kl", None, (1.0, 2)),
        ("eval/sts/dev/spearman", None, (3.0, 1)),
        ("val/rewards/accuracies", None, (3.0, 1)),
        ("val/logps/chosen", "max", (3.0, 1)),
        ("eval/own/task/energy", "min", (1.0, 2)),
    ],
)
def test_the_best_value_is_kept(tmp_path, monitor, mode, kept):
    assert fit(tmp_path, monitor, monitor, mode) == kept


def test_a_metric_that_is_not_logged_ends_the_run_at_its_first_validation(tmp_path):
    with pytest.raises(UserError, match=r"^monitor=val/lozz is not logged\. Set one of .*val/loss"):
        fit(tmp_path, "val/loss", "val/lozz", "min")


def test_a_name_that_does_not_tell_asks_for_the_direction():
    with pytest.raises(UserError, match=r"^monitor=val/logps/chosen: .*monitor_mode=max or min"):
        BestCheckpoint("val/logps/chosen")
    with pytest.raises(UserError, match=r"^monitor_mode=maximum: set max, min or null"):
        monitor_mode("val/loss", "maximum")


def test_a_sweep_goes_the_way_of_the_monitored_metric():
    assert objectives(["train/best"], [], "val/loss", None) == {"train/best": "minimize"}
    assert objectives(["train/best"], [], "eval/sts/dev/spearman", None) == {"train/best": "maximize"}
    assert objectives(["a", "train/best"], ["b"], "val/x", "min") == {
        "a": "maximize",
        "train/best": "minimize",
        "b": "minimize",
    }
    with pytest.raises(UserError, match=r"^sweep\.minimize=\[train/best\]: more of monitor=.*spearman is better"):
        objectives([], ["train/best"], "eval/sts/dev/spearman", None)


@pytest.mark.parametrize("callbacks", ["sts", "default", "kl_budget"])
@pytest.mark.parametrize(("words", "mode"), [(["monitor=val/loss"], "min"), ([], "max"), (["monitor_mode=min"], "min")])
def test_the_config_tree_leaves_the_direction_to_the_metric(tmp_path, callbacks, words, mode):
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", [f"callbacks={callbacks}", f"paths.run_dir={tmp_path}", *words])
    assert instantiate(cfg.callbacks.best).mode == mode
