"""Reads evaluation folders: what was measured, on what, and what could not be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os.path import commonpath
from pathlib import Path
from typing import Any

import yaml

from sempa_lightning.artifacts import EvaluationDir, RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.results import read_items
from sempa_lightning.evaluation.task import Items
from sempa_lightning.masking import masked

BEFORE = "before"


@dataclass(frozen=True)
class Result:
    """One task on one subject.

    Attributes:
        metrics: The task's numbers; empty if it failed or was skipped.
        notes: What it shows beside them.
        seconds: How long it took, or None.
        failed: Why it failed, or None.
        skipped: Why it was left out, or None.
        change_se: Standard error of each metric's change against the subject `before`, where the folder holds it.
        change_ci95: 95 % interval of each metric's change, where the folder holds it.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    failed: str | None = None
    skipped: str | None = None
    change_se: Mapping[str, float] = field(default_factory=dict)
    change_ci95: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation folder, read.

    Attributes:
        path: The folder.
        config: Its resolved config.
        manifest: Versions, commit, hardware, command; empty if it has none.
        results: By subject, then by `suite/task`.
    """

    path: Path
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Result]]

    @cached_property
    def run(self) -> RunDir | None:
        """The folder of the training run that was evaluated, if it is named and still there."""
        named = self.config.get("run")
        if not isinstance(named, str):
            return None
        for place in (Path(named), self.path / named, *(parent / named for parent in self.path.parents)):
            if (run := RunDir(place)).config.is_file():
                return run
        return None

    @cached_property
    def run_config(self) -> Mapping[str, Any]:
        """Config of the training run; empty if there is none."""
        return self.run.read_config() if self.run else {}

    @property
    def config_text(self) -> str:
        """Its config as YAML."""
        return yaml.safe_dump(masked(self.config), sort_keys=False, allow_unicode=True) if self.config else ""

    def setting(self, group: str) -> Mapping[str, Any]:
        """A group of the config, or that of the training run where the evaluation leaves it open."""
        value = self.config.get(group)
        if isinstance(value, dict) and value:
            return value
        inherited = self.run_config.get(group)
        return inherited if isinstance(inherited, dict) else {}

    def items(self, subject: str, task: str) -> Items:
        """Items of a task; empty if they are not there.

        Raises:
            UserError: If they are damaged.
        """
        place, folder = f"{subject}/{task}", EvaluationDir(self.path)
        return read_items(folder, place, folder.read_result(place)) if folder.items(place).is_file() else {}

    def pictures(self) -> list[Path]:
        """Pictures that lie in the folder, by name."""
        found = (self.path / "pictures").rglob("*")
        return sorted(path for path in found if path.suffix.lower() in (".png", ".svg"))

    def log(self) -> list[dict[str, Any]]:
        """What training logged, oldest first; with it what was measured of checkpoints while training went on."""
        lines = self.run.read_metrics() if self.run else []
        for folder in {self.path, self.run.path} if self.run else {self.path}:
            lines += EvaluationDir(folder).read_followed()
        return lines


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """Read evaluation folders, and those that lie inside a folder of a sweep.

    Raises:
        UserError: If a folder is none and holds none, or a file in it is damaged.
    """
    evaluations = []
    for folder in folders:
        if not (found := evaluation_folders(folder)):
            raise UserError(f"{folder} holds no evaluation: name a folder that sempa_lightning.evaluate has written")
        evaluations += [_read(path) for path in found]
    return evaluations


def evaluation_folders(folder: Path) -> list[Path]:
    """The folder itself if it is an evaluation (maybe one in which no task had its data), else those inside."""
    place = EvaluationDir(folder)
    if (folder / "results").is_dir() or (place.manifest.is_file() and "skipped" in place.read_manifest()):
        return [folder]
    results = (path for path in folder.rglob("results") if path.is_dir())
    inner = {path.parent for path in results if EvaluationDir(path.parent).config.is_file()}
    return sorted(inner, key=natural)


def natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Order `9` before `10`, as jobs of a sweep are numbered."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in path.parts)


def names_below(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder that holds all folders, and the name of each in it."""
    whole = [path.absolute() for path in paths]
    above = Path(commonpath([path.parent for path in whole]))
    return above, [str(path.relative_to(above)) for path in whole]


def _read(folder: Path) -> Evaluation:
    place = EvaluationDir(folder)
    results: dict[str, dict[str, Result]] = {}
    for path in sorted((folder / "results").glob("*/*/*.json"), key=natural):
        subject, suite, _ = path.relative_to(folder / "results").parts
        task = f"{suite}/{path.stem}"
        results.setdefault(subject, {})[task] = _result(place.read_result(f"{subject}/{task}"))
    summary = place.read_summary()
    for task, result in results.get("after", {}).items():
        if not result.change_se:
            errors = {name: summary.get(f"change_se/{task}/{name}") for name in result.metrics}
            known = {name: float(error) for name, error in errors.items() if error is not None}
            results["after"][task] = replace(result, change_se=known)
    manifest = place.read_manifest()
    if not results:
        results[BEFORE] = {}
    for task, reason in (manifest.get("skipped") or {}).items():
        for measured in results.values():
            measured.setdefault(task, Result(skipped=str(reason)))
    return Evaluation(folder, place.read_config(), manifest, results)


def _result(content: Mapping[str, Any]) -> Result:
    return Result(
        metrics={name: float(value) for name, value in (content.get("metrics") or {}).items() if value is not None},
        notes=content.get("notes") or {},
        seconds=content.get("seconds"),
        failed=content.get("failed"),
        skipped=content.get("skipped"),
        change_se={name: float(value) for name, value in (content.get("change_se") or {}).items()},
        change_ci95=content.get("change_ci95") or {},
    )
