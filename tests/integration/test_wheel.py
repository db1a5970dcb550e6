"""The built wheel works in an empty folder, without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, cwd, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_it_holds_config_weights_and_data(installed):
    package = installed / "sempa_lightning"
    for inner in ("conf/train.yaml", "assets/nano/model.safetensors", "assets/demo/train.jsonl", "py.typed"):
        assert (package / inner).is_file(), inner


def test_it_finds_its_own_config_and_trains(installed, tmp_path):
    where = run(installed, tmp_path, "-c", "import sempa_lightning.entry as e; print(e.conf_dir())")
    assert where.stdout.strip() == str(installed / "sempa_lightning" / "conf"), where.stderr
    done = run(
        installed, tmp_path, "-m", "sempa_lightning.train", "model=tiny_random", "trainer.max_steps=1",
        "data.max_rows=8", "eval=[sts]", "paths.data_dir=/none", f"paths.cache_dir={tmp_path / 'cache'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/train/*/summary.json"))
