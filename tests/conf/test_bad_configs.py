"""Hundreds of configs with one bad key each: all are refused by name, before anything is loaded."""

import importlib.util
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sempa_lightning.config_check import check_config
from sempa_lightning.errors import UserError

ROOT = Path(__file__).parents[2]
# Keys that no part of a run reads by itself: their values are those of `objective`.
REPEATED = ("loss", "divergence", "sweep", "paths", "trust")
# Changes that are right all the same.
RIGHT = {
    ("readout.layer", "list for a number"),  # several layers
    ("trainer.devices", "list for a number"),  # indices of devices
    ("trainer.devices", "text for a number"),  # such as auto; Lightning refuses what it does not know
    ("trainer.val_check_interval", "text for a number"),  # a time; likewise
    ("trainer.val_check_interval", "mapping for a number"),
}


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("bad_commands", ROOT / "benchmarks" / "bad_commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config(compose):
    cfg = compose("train", "model=tiny_random", "objective=joint", "eval=[sts_quick]", "trainer.max_steps=1").copy()
    OmegaConf.resolve(cfg)
    plain = OmegaConf.to_container(cfg)
    return {key: value for key, value in plain.items() if key not in REPEATED} | {"paths": plain["paths"]}


def refused(config):
    from sempa_lightning.train import PASSED, fields
    from sempa_lightning.training.run_config import check_run

    try:
        check_config(config, fields(), PASSED)
        check_run(config)
    except UserError as error:
        return str(error)
    return None


def test_the_config_itself_is_right(config):
    assert refused(config) is None


def test_every_bad_value_is_refused_by_its_key(config, generator):
    tried, silent, misnamed = 0, [], []
    for change in generator.changes({key: value for key, value in config.items() if key != "paths"}):
        tried += 1
        message = refused(change.applied(config))
        if message is None:
            silent.append((change.key, change.kind))
        elif (change.key.rpartition(".")[0] or change.key) not in message or "\n" in message:
            misnamed.append((change.key, change.kind, message))
    assert tried > 900
    built = {(key, kind) for key, kind in silent if key.endswith("table.path")}  # `FileTable` takes any and refuses it
    assert set(silent) - built == RIGHT
    assert misnamed == []


@pytest.mark.parametrize("change", ["trainer.devices=many", "trainer.val_check_interval=many"])
def test_lightning_refuses_its_own_texts(compose, change):
    from hydra.errors import InstantiationException

    from sempa_lightning.entry import instantiate

    with pytest.raises(InstantiationException, match=r"many|`devices`"):
        instantiate(compose("train", "model=tiny_random", change).trainer)
