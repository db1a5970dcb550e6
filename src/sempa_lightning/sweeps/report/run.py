"""A training run as its folder tells it, whether it has ended or not."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sempa_lightning.artifacts import RunDir, relocated
from sempa_lightning.evaluation.monitor import BEST
from sempa_lightning.evaluation.report.folder import natural
from sempa_lightning.evaluation.report.rows import flat, unseeded
from sempa_lightning.masking import masked, masked_text
from sempa_lightning.metrics.direction import better
from sempa_lightning.sweeps.trial import State as Recorded
from sempa_lightning.sweeps.trial import recorded

State = Literal["unfinished"] | Recorded


# What tells nothing of what was trained.
_APART = {"paths", "run_name", "logger", "resume", "hydra"}
_TAIL_LINES, _TAIL_BYTES = 15, 20_000
# Signs that move a terminal's cursor or colour its text.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")


@dataclass(frozen=True, eq=False)
class Run:
    """A training run.

    Attributes:
        folder: Its folder.
        state: What became of it; `unfinished` where no sweep has recorded that and there is no summary.
        why: Why it failed or was pruned.
        words: By key what its sweep asked of it; None where no sweep has recorded that.
        config: Its config; empty while there is none.
        manifest: Versions, commit, hardware; empty while there is none.
        summary: Its final numbers; empty while there are none, but for the best that was probed so far (`train/best`).
        log: What it logged, oldest first.
    """

    folder: RunDir
    state: State
    why: str
    words: Mapping[str, str] | None
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    summary: Mapping[str, float]
    log: Sequence[Mapping[str, Any]]

    @cached_property
    def settings(self) -> dict[str, str]:
        """Its config without seeds, names and places of files, as text by dotted key."""
        written_to = (self.config.get("paths") or {}).get("run_dir", str(self.folder.path))
        kept = {name: value for name, value in self.config.items() if name not in _APART}
        return flat(unseeded(relocated(kept, written_to, ".")))

    @property
    def asked(self) -> dict[str, str]:
        """The words without seeds, names and places of files."""
        words = {key: value for key, value in (self.words or {}).items() if key.partition(".")[0] not in _APART}
        flattened: dict[str, str] = unseeded(words)
        return {key: value for key, value in flattened.items() if not key.endswith(".seed")}

    @property
    def seed(self) -> str | None:
        """Its seed, if it is known."""
        seed = self.config.get("seed", (self.words or {}).get("seed"))
        return None if seed is None else str(seed)

    @property
    def commit(self) -> str | None:
        """Commit of the package, shortened; `+` behind it if files differed."""
        commit = str(self.manifest.get("commit") or "")
        return commit[:10] + ("+" if commit.endswith("+") else "") or None

    @property
    def steps(self) -> int:
        """Optimiser steps that it has done, as far as it has logged them."""
        logged = [line["step"] for line in self.log if isinstance(line.get("step"), int)]
        return int(self.summary.get("train/steps", max(logged, default=-1) + 1))

    @property
    def planned(self) -> int | None:
        """Optimiser steps that it will do at most, where its config says so."""
        steps = (self.config.get("trainer") or {}).get("max_steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    @property
    def seconds(self) -> float | None:
        """From the config to the last number, by the times of the files; None without them."""
        ends = [path.stat().st_mtime for path in (self.folder.metrics, self.folder.summary) if path.is_file()]
        if not ends or not self.folder.config.is_file():
            return None
        seconds = max(ends) - self.folder.config.stat().st_mtime
        return seconds if seconds > 0 else None

    @property
    def last_words(self) -> str:
        """The end of what it printed; empty where no sweep has kept that."""
        if not self.folder.output.is_file():
            return ""
        with self.folder.output.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL_BYTES))
            printed = output.read().decode(errors="replace")
        lines = (line.rstrip("\r").rpartition("\r")[2] for line in printed.split("\n"))
        shown = [clean for line in lines if (clean := _CONTROL.sub("", line).rstrip())]
        return masked_text("\n".join(shown[-_TAIL_LINES:]))


def run_folders(folder: Path) -> list[Path]:
    """The folder itself if it is that of a run, else those inside, in the order of their numbers."""
    if _is_run(folder):
        return [folder]
    marks = (path for name in ("config.yaml", "metrics.jsonl", "trial.json") for path in folder.rglob(name))
    return sorted({path.parent for path in marks if _is_run(path.parent)}, key=natural)


def _is_run(folder: Path) -> bool:
    run = RunDir(folder)
    if run.trial.is_file() or run.metrics.is_file():
        return True
    return run.config.is_file() and "\ntrainer:\n" in run.config.read_text(encoding="utf-8", errors="replace")


def read_run(folder: Path) -> Run:
    """Read the folder of a run.

    Raises:
        UserError: If a file that is written whole is damaged.
    """
    run = RunDir(folder)
    summary = run.read_summary()
    state: State = "done" if summary else "unfinished"
    why, words = "", None
    if run.trial.is_file():
        trial = recorded(run)
        state, why = trial.state, trial.why
        words = {key.lstrip("+~"): value for key, _, value in (word.partition("=") for word in masked(trial.words))}
    config, log = masked(run.read_config()), run.read_metrics()
    return Run(run, state, why, words, config, run.read_manifest(), _best(config, log) | summary, log)


def _best(config: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The best of the monitored metric in the log; empty if it is not there."""
    monitor = str(config.get("monitor"))
    logged = (float(line[monitor]) for line in log if isinstance(line.get(monitor), int | float))
    found = [value for value in logged if math.isfinite(value)]
    lower = better(monitor.rpartition("/")[2]) == "lower"
    best = min if (config.get("monitor_mode") or ("min" if lower else "max")) == "min" else max
    return {BEST: best(found)} if found else {}
