"""What tests of sweeps share: a sweep folder and its trials."""

import pytest


@pytest.fixture
def sweep(tmp_path):
    """An empty folder of a sweep."""
    from sempa_lightning.artifacts import SweepDir

    (tmp_path / "a sweep").mkdir()
    return SweepDir(tmp_path / "a sweep")


@pytest.fixture
def trial(sweep):
    """Make a trial of the sweep: its number, its words, what was chosen for it."""
    from sempa_lightning.sweeps.trial import Trial

    def make(number, *words, **chosen):
        return Trial(sweep.run(number), words, chosen)

    return make
