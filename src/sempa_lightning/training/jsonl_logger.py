"""Metrics as JSON lines: one object for each logged step, readable while the run goes on."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from sempa_lightning.files import damaged_line, flush, naming, replacing, strict_json, whole_lines


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
    """Drop lines after `step`, whole or not, before a run is resumed.

    Raises:
        UserError: If a line before `step` is damaged.
    """
    if not path.is_file():
        return
    lines = whole_lines(path)
    end = max((number for number, line in enumerate(lines, 1) if _is_before(line, step)), default=0)
    if None in lines[:end]:
        raise damaged_line(path, lines.index(None) + 1)
    kept = [json.dumps(line) + "\n" for line in lines[:end] if _is_before(line, step)]
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _is_before(line: dict[str, Any] | None, step: int) -> bool:
    return line is not None and isinstance(line.get("step"), int) and line["step"] < step
