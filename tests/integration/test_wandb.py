"""What W&B gets of a run, read back from the file of an offline run."""

import json
import struct

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from sempa_lightning.artifacts import RunDir
from sempa_lightning.training.module import TrainingModule

WORDS = ["logger=wandb", "logger.wandb.group=pair", "run_name=one", "trainer.max_steps=2"]
_HEADER, _BLOCK, _WHOLE, _LAST = 7, 32768, 1, 4


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def records(folder):
    """The records of the only W&B run in a run folder: LevelDB's log format behind a header of seven bytes."""
    wandb.teardown()  # waits until all is written
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content, at, parts, found = path.read_bytes(), _HEADER, b"", []
    while at + _HEADER <= len(content):
        if _BLOCK - at % _BLOCK < _HEADER:  # no header is cut by the end of a block
            at += _BLOCK - at % _BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + _HEADER : at + _HEADER + size]
        at += _HEADER + size
        if kind in (_WHOLE, _LAST):
            found.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return found


def config_of(found):
    updates = [item for record in found if record.HasField("config") for item in record.config.update]
    return {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in updates}


def exit_codes(found):
    return [record.exit.exit_code for record in found if record.HasField("exit")]


def history(found):
    rows = [record.history.item for record in found if record.HasField("history")]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]


def assert_told(found, run):
    config = config_of(found)
    assert {key: config[key] for key in run.read_config()} == run.read_config()
    assert config["manifest"] == run.read_manifest()
    assert config["manifest"]["data"]["train"]["kept"] == 41
    (begun,) = (record.run for record in found if record.HasField("run"))
    assert (begun.project, begun.display_name, begun.run_group) == ("sempa_lightning", "one", "pair")


def test_runs_that_end_well(train, unmeasured, tmp_path):
    """Two in one process, as the jobs of a sweep are."""
    for name in ("first", "second"):
        run = train(tmp_path / name, *WORDS, *unmeasured)
        assert wandb.run is None
        found = records(run.path)
        assert_told(found, run)
        assert exit_codes(found) == [0]
        assert [row["trainer/global_step"] for row in history(found) if "train/loss" in row] == [0, 1]
        places = {"epoch", "trainer/global_step", "_step", "_runtime", "_timestamp"}
        logged = [(row["trainer/global_step"], key) for row in history(found) for key in row.keys() - places]
        assert len(logged) == len(set(logged)), "nothing is logged twice"


def test_a_run_that_fails(here, tiny_arguments, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "/full")

    monkeypatch.setattr(TrainingModule, "training_step", fail)
    done = here(*tiny_arguments, f"hydra.run.dir={tmp_path}", *WORDS)
    assert done.returncode == 1
    assert "error: cannot write /full: No space left on device" in done.stderr
    found = records(tmp_path)
    assert_told(found, RunDir(tmp_path))
    assert exit_codes(found) == [1]
