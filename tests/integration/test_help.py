"""`--help` answers at once: it imports none of the heavy libraries."""

import subprocess
import sys

HEAVY = {"torch", "lightning", "transformers", "datasets", "peft"}


def imported_by(*call):
    """Run Python with these words; its output, and the packages that it imported."""
    done = subprocess.run([sys.executable, "-X", "importtime", *call], capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return done.stdout, {name.partition(".")[0] for name in modules}


def test_help_imports_nothing_heavy():
    output, packages = imported_by("-m", "sempa_lightning.train", "--help")
    assert "hydra" in packages
    assert not HEAVY & packages
    for words in ("model: ", "llama3", "experiment: ", "optimizer:", "lr: 0.003"):
        assert words in output


def test_help_of_a_synthesis_imports_nothing_heavy():
    output, packages = imported_by("-m", "sempa_lightning.synthesize", "--help")
    assert "hydra" in packages
    assert not HEAVY & packages
    for words in ("transformation: ", "roth", "ranked", "max_new_tokens: 100"):
        assert words in output


def test_the_check_can_fail():
    assert imported_by("-c", "import torch")[1] & HEAVY == {"torch"}
