"""Metrics as JSON lines: one object for each logged step, readable while the run goes on."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from sempa_lightning.files import flush, naming, replacing, strict_json


class JsonlLogger(Logger):
    """Appends to one file; the first process alone writes.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)

    @property
    def name(self) -> str:
        """Name of the file."""
        return self._path.name

    @property
    def version(self) -> None:
        """None: a run folder holds one log."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self._path), self._path.open("a", encoding="utf-8") as lines:
            lines.write(strict_json({"step": step, **metrics}) + "\n")

    @rank_zero_only
    def save(self) -> None:
        """Have all lines on the disk: a checkpoint that outlives a power cut must find those of its steps."""
        if self._path.is_file():
            flush(self._path)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Nothing: the run folder holds the whole config."""


def cut_back(path: Path, step: int) -> None:
    """Drop lines after `step`, and a line that was not written to its end, before a run is resumed."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry["step"] is not None and entry["step"] < step:
            kept.append(line + "\n")
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
