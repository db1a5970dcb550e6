"""Composing the config tree as the entry points do."""

from functools import cache
from pathlib import Path

import hydra
import pytest


@pytest.fixture(scope="session")
def compose():
    """Compose a root with overrides, for reading; run folders are named, not made."""
    conf = Path(__file__).parents[2] / "conf"

    @cache
    def compose(root, *overrides):
        with hydra.initialize_config_dir(str(conf), version_base="1.3"):
            cfg = hydra.compose(root, list(overrides))
        if "paths" in cfg:
            cfg.paths.run_dir = "run"  # Hydra knows it only while a job runs
        return cfg

    return compose
