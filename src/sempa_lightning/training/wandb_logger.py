"""W&B: one run of it for each run folder, online where it can be and offline elsewhere."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from pydantic import ValidationError

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.table import Rows
from sempa_lightning.masking import secret_overrides
from sempa_lightning.sweeps.trial import recorded

_STEP = "trainer/global_step"  # Lightning's name for the x axis
_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")


class RunLogger(WandbLogger):
    """Logs a run folder to one W&B run, which goes on where the run is resumed; the first process alone writes.

    Without a key, or if W&B cannot be reached, that is an offline run in the folder, for `wandb sync`.

    Args:
        project: Where W&B shows the run.
        name: How it is called there; a run of a sweep is called by what was chosen for it instead.
        save_dir: The run folder.
        group: Which runs it belongs to; null for those of its sweep, called as the sweep's folder.
        tags: Words to find it by.

    Raises:
        UserError: If `WANDB_MODE` is none of W&B's, or W&B does not take a name.
    """

    def __init__(self, project: str, name: str, save_dir: str, group: str | None, tags: list[str]) -> None:
        if (mode := os.environ.get("WANDB_MODE", "online")) not in _MODES:
            raise UserError(f"WANDB_MODE={mode} is none of online, offline and disabled: set one of them, or unset it")
        run = RunDir(save_dir)
        if run.trial.is_file():
            name = ",".join(f"{key}={value}" for key, value in recorded(run).chosen.items()) or name
            group = group or run.path.absolute().parent.name
        _check_names({"project": project, "name": name, "group": group, "tags": tags})
        earlier = _earlier_id(run)
        super().__init__(project=project, name=name, save_dir=save_dir, id=earlier, group=group, tags=tags)
        # Read now, for the log is cut back to the checkpoint before a run goes on.
        self._last_step, self._logged = _last_logged(run) if earlier else (-1, frozenset())

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 (W&B's run, whose module is slow to import)
        """The W&B run; it begins when it is asked for."""
        if self._experiment is None:
            self._experiment = _begin({key: value for key, value in self._wandb_init.items() if value is not None})
            self._experiment.define_metric(_STEP)
            self._experiment.define_metric("*", step_metric=_STEP)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row, without what the run has logged already before it was resumed from an earlier step."""
        if step is not None and step <= self._last_step:
            known = self._logged if step == self._last_step else metrics.keys()
            metrics = {key: value for key, value in metrics.items() if key not in known}
        if metrics:
            super().log_metrics(metrics, step)

    @rank_zero_only
    def show(self, tables: Mapping[str, Rows], pictures: Mapping[str, Path], step: int) -> None:
        """Log what is to be looked at, as `tables/<name>` and `pictures/<name>`; a table without rows is left out."""
        for name, rows in tables.items():
            if rows:
                self.log_table(f"tables/{name}", list(rows[0]), [list(row.values()) for row in rows], step=step)
        for name, path in pictures.items():
            self.log_image(f"pictures/{name}", [str(path)], step)


def _check_names(names: Mapping[str, Any]) -> None:
    """Let W&B check what the run is called, before a model is loaded.

    Raises:
        UserError: If it refuses a name.
    """
    import wandb

    fields = {"project": "project", "name": "run_name", "group": "run_group", "tags": "run_tags"}
    for key, value in names.items():
        if value is None:
            continue
        try:
            wandb.Settings.model_validate({fields[key]: value})
        except (wandb.Error, ValueError) as error:  # pydantic's errors are of values
            found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise UserError(f"logger.wandb.{key}={value}: {found}") from error


def _begin(settings: dict[str, Any]) -> Any:  # noqa: ANN401 (as above)
    """Begin a W&B run; offline, with a line that says why, where it cannot be online."""
    import wandb

    # W&B keeps the command line with the run.
    settings = {**settings, "settings": wandb.Settings(x_disable_meta=True)} if secret_overrides(sys.argv) else settings
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return wandb.init(**settings)
    why = "no API key (`wandb login`, or WANDB_API_KEY)"
    folder = Path(settings["dir"]) / "wandb"
    there = {*folder.glob("run-*")}
    try:
        if wandb.login(prompt=False, verify=False):
            return wandb.init(**settings)
    except wandb.Error as error:
        why = " ".join(str(error).split())
    for left in {*folder.glob("run-*")} - there:  # `wandb sync` of the folder would upload it as a run of its own
        shutil.rmtree(left, ignore_errors=True)
    run = wandb.init(**settings, mode="offline")
    wandb.termlog(f"{why}: the run is logged offline")
    return run


def _earlier_id(run: RunDir) -> str | None:
    """Id of the W&B run that a resumed run goes on with, which W&B's folders are called by: `run-<date>-<id>`."""
    if not run.last_checkpoint.exists():  # a new run, perhaps in the folder of one that has come to nothing
        return None
    folders = (path.name.removeprefix("offline-").split("-", 2) for path in run.path.glob("wandb/*run-*-*"))
    return max(folders, default=[None])[-1]


def _last_logged(run: RunDir) -> tuple[int, frozenset[str]]:
    """The last step that was logged, -1 if none was, and what was logged at it."""
    lines = [line for line in run.read_metrics() if line["step"] is not None]
    last = max((line["step"] for line in lines), default=-1)
    return last, frozenset(key for line in lines if line["step"] == last for key in line)
