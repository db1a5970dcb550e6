"""`python -m sempa_lightning.evaluate`: measure a run, its base and what it trained, or a model as it is."""

import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, Literal

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf

from sempa_lightning.artifacts import EvaluationDir, RunDir, SweepDir
from sempa_lightning.check import Count, Positive
from sempa_lightning.config_check import check_type
from sempa_lightning.entry import (
    SUBJECT_GROUPS,
    checked,
    conf_dir,
    config_text,
    instantiate,
    refuse_another_config,
    resumed_config,
    run_main,
    settle_dtype,
    subject_fields,
    subjects_of,
    telling_errors,
    trusted,
    with_saved,
)
from sempa_lightning.errors import UserError
from sempa_lightning.files import write_json, write_text
from sempa_lightning.masking import masked, secret_overrides
from sempa_lightning.stopping import STOPPED, first_stopping_on_signals
from sempa_lightning.trust import consent

# Exit codes beside 0 (all was measured) and 1 (an error that is told in one line).
FAILED, SKIPPED = 3, 4

# What another call in the same folder may have otherwise: nothing of it changes a number.
_FREE = ("processes", "device", "follow", "poll_seconds", "patience_seconds", "paths", "keep_layers", "limit")
_SECONDS_TO_WAIT = 120
# `default` leaves each task its own limit; null is all rows.
_Limit = Literal["default"] | Count | None


def evaluate(cfg: Any, overrides: list[str], trust: Sequence[str] = ()) -> int:  # noqa: ANN401 (as below)
    """Measure what is not measured yet, and summarise.

    Args:
        cfg: The resolved config.
        overrides: The words of the command line, for the manifest.
        trust: Modules that saved configs may name (see `check_saved`).

    Returns:
        The exit code: 0, or `FAILED`, or `SKIPPED`.
    """
    from sempa_lightning.evaluation.queue import Queue, Watch
    from sempa_lightning.evaluation.runner import available, skipped
    from sempa_lightning.evaluation.table import print_summary
    from sempa_lightning.evaluation.workers import Workers, own_rank, worker_command
    from sempa_lightning.terminal import Terminal
    from sempa_lightning.training.manifest import manifest
    from sempa_lightning.training.setup import quieten

    quieten()
    folder, rank = EvaluationDir(cfg.paths.run_dir), own_rank()
    console = Terminal(quiet=rank > 0)
    suites, subjects = instantiate(cfg.eval), subjects_of(cfg, cfg.device, cfg.keep_layers, cfg.checkpoint, trust)
    queue = Queue(folder, available(suites, console), _chosen(subjects.labels, cfg.subjects), cfg.seed)
    if rank > 0:
        _wait_for(folder)
        queue.work(subjects, console)
        return 0
    refuse_another_config(folder, config_text(cfg), _FREE)
    write_text(folder.config, config_text(cfg))
    kept = [word for word in overrides if not word.startswith("trust=")]
    missing = {"skipped": skipped(suites), "overrides": masked(kept)}
    write_json(folder.manifest, manifest(cfg.seed, "evaluate") | missing)
    console.print(f"evaluation folder: {folder.path}", soft_wrap=True)
    if cfg.follow:
        _follow(cfg, queue, console, trust)
    queue.retry()
    if cfg.processes > 1:
        command = worker_command("evaluate", folder.path, consent(OmegaConf.to_container(cfg), trust))
        commands = [[*command, *secret_overrides(overrides)]] * cfg.processes
        # Two deaths at a task make it a failure: there cannot be more than this.
        Workers(commands, folder.log, restarts=2 * len(queue.places)).run(Watch(queue, console), console)
    else:
        queue.work(subjects, console)
    print_summary(queue.finish(console), console, "Evaluation" if len(queue.labels) == 1 else "Base and trained")
    _report(folder, console)
    console.print(f"numbers are in {folder.path}", soft_wrap=True)
    return exit_code(folder)


def exit_code(folder: EvaluationDir) -> int:
    """What the exit code says of an evaluation: ended (0), without a task that failed, without data, or not at all."""
    if not folder.summary.is_file():
        return 1
    if any("failed" in result for result in folder.read_results().values()):
        return FAILED
    return SKIPPED if folder.read_manifest().get("skipped") else 0


def fields() -> dict[str, Any]:
    """Top-level keys of an evaluation's config, each with the type of its value."""
    from sempa_lightning.evaluation.task import Task

    return subject_fields() | {
        "run": str | None,
        "checkpoint": str | None,
        "eval": dict[str, dict[str, Task]],
        "subjects": list[str],
        "limit": _Limit,
        "keep_layers": list[int],
        "processes": Count,
        "device": str | None,
        "follow": bool,
        "poll_seconds": Positive,
        "patience_seconds": Positive,
        "resume": str | None,
    }


def _limit(suites: Any, limit: object) -> None:  # noqa: ANN401 (a config node)
    """Set the limit of each task that has one.

    Raises:
        UserError: If the limit is none, or no task has one.
    """
    check_type("limit", limit, _Limit)
    if limit == "default":
        return
    limited = [task for tasks in suites.values() for task in tasks.values() if "limit" in task]
    if not limited:
        raise UserError(
            f"limit: {limit} changes nothing: the tasks of {', '.join(suites)} have no limit. Drop it, or choose"
            " eval=[harness_local]."
        )
    for task in limited:
        task.limit = limit


def composed(cfg: Any, overrides: list[str]) -> Any:  # noqa: ANN401 (as below)
    """The resolved config of an evaluation.

    A run brings its model, readout, prompt and layout, whole or but for the values that the command line gives; what a
    model brings for training only is dropped.

    Raises:
        UserError: If neither a run nor a model is named.
    """
    if cfg.run is None and OmegaConf.is_missing(cfg.model, "path"):
        raise UserError("measure what? run=<run folder>, model=<option> or model.path=<folder or Hub name>")
    keys = [key for key in cfg if key not in ("resume", "run_name", "objective", "optimizer", "data", "trust")]
    own = OmegaConf.masked_copy(cfg, keys)
    OmegaConf.resolve(own)
    _limit(own.eval, cfg.limit)
    return own if cfg.run is None else with_saved(own, SUBJECT_GROUPS, overrides, trusted(cfg.trust))


def _chosen(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """The subjects that are asked for.

    Raises:
        UserError: If there is none of them.
    """
    chosen = [label for label in labels if label in names]
    if not chosen:
        raise UserError(f"subjects={[*names]}: name some of {', '.join(labels)}")
    return chosen


def _follow(cfg: Any, queue: Any, console: Any, trust: Sequence[str]) -> None:  # noqa: ANN401 (as below; types that are slow to import)
    """Measure checkpoints until the run has ended."""
    from sempa_lightning.evaluation.follow import follow

    if cfg.run is None:
        raise UserError("follow=true goes with a run: run=<run folder>")
    run, poll, patience = RunDir(cfg.run), float(cfg.poll_seconds), float(cfg.patience_seconds)
    subjects = subjects_of(cfg, cfg.device, cfg.keep_layers, run.last_checkpoint.name, trust)
    follow(run, subjects, queue, console, poll, patience)


def _wait_for(folder: EvaluationDir) -> None:
    """Wait until the first process has written the config.

    Raises:
        UserError: If it does not come: then the first process has another folder.
    """
    end = time.monotonic() + _SECONDS_TO_WAIT
    while not folder.config.is_file():
        if time.monotonic() > end:
            raise UserError(f"no other process works on {folder.path}: give all the same hydra.run.dir=…")
        time.sleep(0.2)


def _report(folder: EvaluationDir, console: Any) -> None:  # noqa: ANN401 (as below)
    """Write the report; the numbers are there without it, so that a failure is told and logged, no more."""
    from sempa_lightning.evaluation.report import write_report

    try:
        write_report([folder.path], folder.path)
    except Exception as error:
        write_text(folder.log("report"), "".join(traceback.format_exception(error)))
        console.print(
            f"no report: {type(error).__name__}: {error}; see {folder.log('report')}", style="red", soft_wrap=True
        )


class SweepTable(Callback):
    """At the end of a sweep: one table over its evaluations, and the exit code of the worst."""

    def on_multirun_end(self, config: Any, **_: Any) -> None:  # noqa: ANN401 (Hydra's signature)
        """Print and write the table."""
        from sempa_lightning.evaluation.sweep import tabulate
        from sempa_lightning.terminal import Terminal

        sweep = SweepDir(config.hydra.sweep.dir)
        tabulate(sweep, Terminal())
        codes = {exit_code(folder) for folder in sweep.evaluations}
        if code := next((code for code in (1, FAILED, SKIPPED) if code in codes), 0):
            sys.exit(code)


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="evaluate")
def main(cfg: Any) -> None:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Hydra's door; in a sweep an evaluation that ends early does not end the others."""
    hydra_config = HydraConfig.get()
    overrides, code = list(hydra_config.overrides.task), 1
    try:
        with telling_errors():
            resumed, trust = cfg.resume is not None, trusted(cfg.trust)
            free = ("processes", "device")
            cfg = resumed_config(cfg, overrides, free, trust) if resumed else composed(cfg, overrides)
            cfg = checked(cfg, fields(), saved=resumed)
            if not resumed:
                settle_dtype(cfg, cfg.device)
            folder = EvaluationDir(cfg.paths.run_dir)
            sweep = f"the same command with hydra.sweep.dir={hydra_config.sweep.dir}"
            words = f"resume={folder.path}" if hydra_config.mode != RunMode.MULTIRUN else sweep
            with first_stopping_on_signals(words, folder.config.is_file):
                code = evaluate(cfg, overrides, trust)
    except SystemExit as end:
        if hydra_config.mode != RunMode.MULTIRUN or end.code == STOPPED:
            raise
    if code and hydra_config.mode != RunMode.MULTIRUN:
        sys.exit(code)


if __name__ == "__main__":
    run_main(main)
