"""The mathematics can be used without the frameworks: importing it loads none of them."""

import json
import pkgutil
import subprocess
import sys

import sempa_lightning

FRAMEWORKS = {"lightning", "hydra", "omegaconf", "transformers", "datasets", "peft"}
LAYERS = ("types", "errors", "losses", "pooling", "metrics", "prompts")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sempa_lightning.__path__, "sempa_lightning.", onerror=lambda _: None)
    if module.name.split(".")[1] in LAYERS
)
SCRIPT = """
import importlib, json, sys
report = {}
for module in sys.argv[1:]:
    before = {name.partition(".")[0] for name in sys.modules}
    importlib.import_module(module)
    report[module] = sorted({name.partition(".")[0] for name in sys.modules} - before)
print(json.dumps(report))
"""


def frameworks_loaded_by(modules):
    """Import modules in turn in a fresh interpreter; tell which frameworks each was the first to load.

    torchmetrics loads transformers by itself where it is installed; that is not held against a metric.
    """
    command = [sys.executable, "-c", SCRIPT, *modules]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    guilty = {}
    for module, loaded in json.loads(run.stdout).items():
        allowed = {"transformers"} if "torchmetrics" in loaded and module != "torchmetrics" else set()
        if found := FRAMEWORKS.intersection(loaded) - allowed:
            guilty[module] = found
    return guilty


def test_modules_were_found():
    expected = {
        "losses.plackett_luce",
        "pooling.mean",
        "pooling.last_token",
        "metrics.language",
        "metrics.preference",
        "prompts.template",
        "types",
    }
    assert {f"sempa_lightning.{name}" for name in expected} <= set(MODULES)


def test_the_mathematics_loads_no_framework():
    with_torchmetrics = ["sempa_lightning.metrics.similarity"]
    assert frameworks_loaded_by([name for name in MODULES if name not in with_torchmetrics]) == {}
    assert frameworks_loaded_by(with_torchmetrics) == {}


def test_the_check_can_fail():
    """On the frameworks themselves, and on modules of ours that use them."""
    ours = [
        "sempa_lightning.losses.plackett_luce",
        "sempa_lightning.data.cache",
        "sempa_lightning.models.scratch",
    ]
    assert frameworks_loaded_by(["omegaconf", *ours, "hydra", "lightning"]) == {
        "omegaconf": {"omegaconf"},
        "sempa_lightning.data.cache": {"datasets"},
        "sempa_lightning.models.scratch": {"transformers", "peft"},
        "hydra": {"hydra"},
        "lightning": {"lightning"},
    }
