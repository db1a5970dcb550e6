"""Secrets on the command line work in the run, and stand in no file and no line of it."""

import sys
import types

import pytest
import wandb
from lightning import Callback

from sempa_lightning.artifacts import RunDir, SweepDir
from sempa_lightning.errors import UserError
from sempa_lightning.sweeps.trial import Trial, recorded

KEY, PASSWORD, SIGNATURE = "k3y-of-a-service", "pa55-word", "s1gn-ature"
NOTE = f"data?signature={SIGNATURE}"


SEEN = []


class Client(Callback):
    """A component of a user that needs a key."""

    def __init__(self, api_key, password, note):
        SEEN.append((api_key, password, note))


@pytest.fixture
def component(monkeypatch):
    module = types.ModuleType("component_of_a_user")
    module.Client = Client
    Client.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    SEEN.clear()
    client = "+callbacks.client"
    return [
        f"{client}._target_=component_of_a_user.Client",
        f"{client}.note='{NOTE}'",
        f"{client}.api_key={KEY}",
        f"{client}.password='{PASSWORD}'",
    ]


def leaks(folder):
    """Files that hold a secret."""
    secrets = [text.encode() for text in (KEY, PASSWORD, SIGNATURE)]
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


def test_a_run_and_its_resumption(tmp_path, here, tiny_arguments, unmeasured, component):
    folder = tmp_path / "run"
    words = [
        *tiny_arguments,
        *unmeasured,
        *component,
        "logger=wandb",
        "samples.sentences=[]",
    ]
    done = here(*words, f"hydra.run.dir={folder}", "trainer.max_steps=2")
    assert done.returncode == 0, done.stderr
    wandb.teardown()
    assert SEEN == [(KEY, PASSWORD, NOTE)]
    assert leaks(folder) == []
    assert not any(secret in done.stdout + done.stderr for secret in (KEY, PASSWORD, SIGNATURE))
    run = RunDir(folder)
    client = run.read_config()["callbacks"]["client"]
    assert client["api_key"] == client["password"] == "<masked>"
    assert client["note"] == "data?signature=<masked>"
    assert "api_key=<masked>" in run.read_manifest()["command"]

    done = here(f"resume={folder}", "trust=[component_of_a_user]")
    assert done.returncode == 1
    assert done.stderr.startswith("error: callbacks.client.")
    assert done.stderr.count("\n") == 1
    assert "the saved config holds <masked>" in done.stderr

    done = here(f"resume={folder}", "trust=[component_of_a_user]", "max_grad_norm=2")
    assert "max_grad_norm" in done.stderr  # whatever is no secret stays as it was


def test_a_resumed_run_takes_its_secrets_again(tmp_path):
    from omegaconf import OmegaConf

    from sempa_lightning.entry import instantiate, resumed_config

    run = RunDir(tmp_path)
    run.config.write_text(
        f"paths: {{run_dir: {tmp_path}}}\n"
        "model: {_target_: builtins.dict, token: <masked>, password: '${oc.env:PASS}'}\n"
    )
    cfg = OmegaConf.create({"resume": str(tmp_path), "model": {"token": KEY, "path": "other"}})
    with pytest.raises(UserError, match=r"model\.token.*<masked>"):
        instantiate(resumed_config(cfg, [], trust=["builtins", "PASS"]).model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PASS", PASSWORD)
        resumed = resumed_config(cfg, [f"+model.token={KEY}"], trust=["builtins", "PASS"])
        assert instantiate(resumed.model) == {"token": KEY, "password": PASSWORD}
    with pytest.raises(UserError, match=r"model\.path"):
        resumed_config(cfg, ["+model.path=other"], trust=["builtins", "PASS"])


def test_a_sweep_records_masks_and_starts_with_secrets(tmp_path):
    sweep, words = SweepDir(tmp_path), [f"+model.token={KEY}", "seed=1,2"]
    sweep.begin(words, resume=False)
    sweep.begin(words, resume=True)
    trial = Trial(sweep.run(0), (words[0], "seed=1"), {"model.token": KEY, "seed": "1"})
    trial.became("queued")
    assert leaks(tmp_path) == []
    assert trial.words[0] == words[0]
    assert recorded(trial.run).words == ("+model.token=<masked>", "seed=1")
    assert recorded(trial.run).chosen == {"model.token": "<masked>", "seed": "1"}
