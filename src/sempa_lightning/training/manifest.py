"""What a run or an evaluation was made with: versions, commit, hardware, command."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sempa_lightning.masking import masked_text

_PACKAGES = ("sempa-lightning", "torch", "lightning", "transformers", "peft", "datasets", "hydra-core")


def manifest(seed: int, command: str = "train") -> dict[str, Any]:
    """Collect what a reader needs to judge or repeat what this command does."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    kept = [word for word in sys.argv[1:] if not word.startswith("trust=")]  # it is given anew each time
    return {
        "command": masked_text(" ".join([Path(sys.executable).name, "-m", f"sempa_lightning.{command}", *kept])),
        "seed": seed,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
        },
    }


def _commit() -> str | None:
    """Commit of the checkout that the package runs from, `+` behind it if files differ; None for a wheel."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if _git(folder, "status", "--porcelain") else "") if tracked else None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
