"""`python -m sempa_lightning.train`: train a policy and show what it did to embeddings and to generation."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf

from sempa_lightning.artifacts import RunDir, SweepDir
from sempa_lightning.check import Positive
from sempa_lightning.entry import (
    RESUMED_FREELY,
    checked,
    conf_dir,
    config_text,
    ending_wandb_run,
    instantiate,
    is_read,
    plain,
    refuse_another_config,
    resumed_config,
    run_main,
    settle_dtype,
    subject_fields,
    telling_errors,
    trusted,
)
from sempa_lightning.errors import UserError
from sempa_lightning.files import write_json, write_text
from sempa_lightning.stopping import STOPPED, stopping_on_signals
from sempa_lightning.sweeps.trial import Trial, objectives, recorded_trials


def train(cfg: Any, *, resume: bool) -> float | None:  # noqa: ANN401 (as below)
    """Build everything a run needs; evaluate, fit, evaluate again.

    Returns:
        The best value of the monitored metric, or None if it was never taken.
    """
    from sempa_lightning.evaluation.before_after import BeforeAfter
    from sempa_lightning.evaluation.task import Subject
    from sempa_lightning.models.adapters import save_policy
    from sempa_lightning.models.causal_lm import decoder
    from sempa_lightning.terminal import Terminal
    from sempa_lightning.training.callbacks import random_states, same_config, stop_between_steps
    from sempa_lightning.training.callbacks.probe import watch
    from sempa_lightning.training.checkpoints import (
        best_score,
        starting_point,
        training_summary,
    )
    from sempa_lightning.training.measured_fit import measured_fit
    from sempa_lightning.training.module import TrainingModule
    from sempa_lightning.training.setup import is_first_process, quieten, seed_everything

    quieten()
    run, console = RunDir(cfg.paths.run_dir), Terminal(quiet=not is_first_process())
    seed_everything(cfg.seed)
    callbacks = [
        *instantiate(cfg.callbacks).values(),
        random_states.RandomStates(),
        same_config.SameConfig(OmegaConf.to_container(cfg)),
        stop_between_steps.StopBetweenSteps(),
    ]
    loggers = list(instantiate(cfg.logger).values())
    # Before the model, which may take minutes to load: it knows whether the devices are there.
    trainer = _trainer(cfg, callbacks, loggers, run)
    parts = _parts(cfg)  # before the model, too: they may refuse a value
    model, tokenizer = instantiate(cfg.model)
    policy = parts["adapter"].attach(model)
    reference = instantiate(cfg.reference, policy=policy)
    subject = Subject(policy, tokenizer, parts["readout"], parts["prompt"], reference, parts["scoring"])
    datamodule = instantiate(cfg.data, tokenizer=tokenizer)
    module = TrainingModule(
        policy,
        reference,
        parts["objective"],
        parts["optimizer"],
        parts["scheduler"],
        cfg.max_grad_norm,
        subject.layout,
    )
    watch(callbacks, subject)
    checkpoint = starting_point(run, console, resume=resume, max_steps=trainer.max_steps)

    if is_first_process():
        datamodule.prepare_data()
        _record_changes(run, cfg, console) if resume else _describe(run, cfg, datamodule.counts)
        for logger in loggers:
            logger.log_hyperparams(run.read_config() | {"manifest": run.read_manifest()})
        console.print(f"run folder: {run.path}\n{datamodule}", soft_wrap=True)
    comparison = BeforeAfter(parts["eval"], parts["samples"], subject, console)
    if cfg.compile:
        decoder(policy).compile()
    trained = measured_fit(trainer, module, datamodule, checkpoint, comparison, console)
    if is_first_process():
        weights = save_policy(policy, tokenizer, run, trained)
        for suite, results in comparison.suites().items():
            write_json(run.evaluation(suite), results)
        write_json(run.summary, comparison.summary | training_summary(trainer))
        comparison.draw(run.picture, run.read_metrics(), cfg.monitor)
        _log_end(loggers, run, comparison, trainer.global_step)
        comparison.print()
        console.print(f"{weights.name} and numbers are in {run.path}", soft_wrap=True)
        _check_measured(comparison, run)
    return best_score(trainer)


def _trainer(cfg: Any, callbacks: list[Any], loggers: list[Any], run: RunDir) -> Any:  # noqa: ANN401 (as below)
    """Build the trainer, which finds its devices and the other processes."""
    from sempa_lightning.training.checkpoints import AtomicCheckpointIO
    from sempa_lightning.training.rendezvous import check_rendezvous

    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run.path))
    if trainer.world_size > 1:
        check_rendezvous(os.environ)
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return trainer


def _parts(cfg: Any) -> dict[str, Any]:  # noqa: ANN401 (as below)
    """Build the groups that need no model."""
    from sempa_lightning.evaluation.samples import candidates
    from sempa_lightning.training.optimizers import check_factories

    parts = {
        "adapter": instantiate(cfg.adapter),
        "readout": instantiate(cfg.readout),
        "prompt": instantiate(cfg.prompt),
        "scoring": instantiate(cfg.scoring),
        "objective": instantiate(cfg.objective),
        "optimizer": instantiate(cfg.optimizer),
        "scheduler": instantiate(cfg.scheduler),
        "eval": instantiate(cfg.eval),
        "samples": instantiate(cfg.samples),
    }
    check_factories(parts["optimizer"], parts["scheduler"])
    candidates(parts["samples"])
    return parts


def fields() -> dict[str, Any]:
    """Top-level keys of a training config, each with the type of its value."""
    from lightning import LightningDataModule, Trainer
    from lightning.pytorch.callbacks import Callback as TrainerCallback
    from lightning.pytorch.loggers import Logger

    from sempa_lightning.evaluation.samples import SampleSpec
    from sempa_lightning.evaluation.task import Task
    from sempa_lightning.models.adapters import Adapter
    from sempa_lightning.scoring.reference import Reference
    from sempa_lightning.training.objectives import Objective
    from sempa_lightning.training.optimizers import OptimizerFactory, SchedulerFactory

    return (
        {"loss": Any, "divergence": Any}
        | subject_fields()
        | {
            "adapter": Adapter,
            "objective": Objective,
            "reference": Reference,
            "optimizer": OptimizerFactory,
            "scheduler": SchedulerFactory,
            "trainer": Trainer,
            "logger": dict[str, Logger],
            "callbacks": dict[str, TrainerCallback],
            "data": LightningDataModule,
            "eval": dict[str, dict[str, Task]],
            "samples": SampleSpec,
            "max_grad_norm": Positive | None,
            "compile": bool,
            "monitor": str,
            "monitor_mode": Literal["max", "min"] | None,
            "preflight": bool,
            "resume": str | None,
        }
    )


# Parameters that `train` passes itself, or does without, each with what to set instead.
PASSED = {
    "trainer": {
        "callbacks": "+callbacks.<name>={_target_: …}",
        "logger": "logger=<option>",
        "default_root_dir": "hydra.run.dir=<folder>",
        "accumulate_grad_batches": "data.micro_batch_tokens=<tokens>",
        "gradient_clip_val": "max_grad_norm=<norm>",
        "gradient_clip_algorithm": "max_grad_norm=<norm>",
        "overfit_batches": "data.max_rows=<rows>",
    },
    "reference": {"policy": "adapter=<option>"},
    "data": {"tokenizer": "model=<option>"},
    "optimizer": {"params": "adapter.target_modules=<names>"},
    "scheduler": {"optimizer": "optimizer=<option>", "num_steps": "trainer.max_steps=<steps>"},
}


def _refuse_idle(cfg: Any, overrides: Sequence[str]) -> None:  # noqa: ANN401 (as below)
    """Refuse to choose a loss or divergence that nothing refers to.

    Args:
        cfg: The config; interpolations are not resolved.
        overrides: The command line.

    Raises:
        UserError: If an override chooses one.
    """
    for group in ("loss", "divergence"):
        chosen = [word for word in overrides if re.match(rf"[+~]*{group}[.=@]", word)]
        if chosen and group in cfg and not is_read(cfg, group):
            raise UserError(
                f"{chosen[0]} changes nothing: this objective has no {group}; leave it out, or set"
                " objective=preference or objective=joint"
            )


def _refuse_alone(objective: Any, batch_size: object) -> None:  # noqa: ANN401 (a config node)
    """Refuse to contrast each anchor with nothing.

    Args:
        objective: Its config.
        batch_size: Anchors of an optimiser step.

    Raises:
        UserError: If an anchor is alone in its step and its own rejected candidates are no negatives.
    """
    for member in objective.get("objectives", {}).values():
        _refuse_alone(member.get("objective", {}), batch_size)
    if objective.get("negatives") is False and batch_size == 1:
        raise UserError(
            "data.batch_size=1: with objective.negatives=false an anchor that is alone in its step has no negative, and"
            " a loss of 0. Set data.batch_size=2 or more."
        )


def _check(cfg: Any, folder: str) -> None:  # noqa: ANN401 (as below)
    """Check what goes beyond single keys.

    Raises:
        UserError: See `check_run`; also if the run's folder has no name.
    """
    from sempa_lightning.training.run_config import check_run

    if not folder:
        raise UserError("hydra.run.dir: expected a folder, found ''. Set hydra.run.dir=<folder> or drop it.")
    check_run(plain(cfg))
    _refuse_alone(cfg.objective, cfg.data.get("batch_size"))


def _has_begun(run: RunDir, cfg: Any) -> bool:  # noqa: ANN401 (as below)
    """Whether the same command has run in this folder before, and was stopped after its first checkpoint.

    Raises:
        UserError: If the folder holds another run, or one that has ended.
    """
    if not run.resumable_checkpoints:
        return False
    refuse_another_config(run, config_text(cfg), RESUMED_FREELY)
    if run.summary.is_file():
        raise UserError(f"{run.path} holds a run that has ended: name a new folder with hydra.run.dir=…")
    return True


def _describe(run: RunDir, cfg: Any, counts: Mapping[str, Any]) -> None:  # noqa: ANN401 (as below)
    """Write what the run is made of."""
    from sempa_lightning.training.manifest import manifest

    write_text(run.config, config_text(cfg))
    write_json(run.manifest, manifest(cfg.seed) | {"data": counts})


def _check_measured(comparison: Any, run: RunDir) -> None:  # noqa: ANN401 (`BeforeAfter`, which is slow to import)
    """Let a run whose tasks failed after training end with an error, once all else is written.

    Raises:
        UserError: If there is such a task.
    """
    if comparison.failed:
        failed = "; ".join(f"{key}: {why}" for key, why in comparison.failed.items())
        raise UserError(f"{failed}. The weights are saved; measure them again with evaluate run={run.path}")


def _record_changes(run: RunDir, cfg: Any, console: Any) -> None:  # noqa: ANN401 (as below; a console)
    """Print what this call changes in the trainer of a resumed run, and write it to the run's config."""
    from sempa_lightning.evaluation.report.rows import flat

    before, now = flat(run.read_config().get("trainer")), flat(OmegaConf.to_container(cfg.trainer))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            console.print(f"trainer.{key}: {before.get(key, 'unset')} → {now.get(key, 'unset')}", soft_wrap=True)
    write_text(run.config, config_text(cfg))


def _log_end(loggers: Sequence[Any], run: RunDir, comparison: Any, step: int) -> None:  # noqa: ANN401 (`BeforeAfter`, which is slow to import)
    """Log the numbers of a finished run, and what there is to look at where a logger shows it."""
    from sempa_lightning.training.wandb_logger import RunLogger

    for logger in loggers:
        logger.log_metrics(run.read_summary(), step=step)
        if isinstance(logger, RunLogger):
            logger.show(comparison.tables(), run.pictures, step)


def _check_sweep(config: Any) -> None:  # noqa: ANN401 (as below)
    """Check the settings of a sweep.

    Raises:
        UserError: If a grid is given those of a search, or the sweep to resume is named where it comes too late.
    """
    sweep, is_grid = config.sweep, config.hydra.sweeper._target_.endswith(".BasicSweeper")
    if is_grid and (idle := sweep.keys() - {"resume", "maximize", "minimize"}):
        raise UserError(f"sweep.{min(idle)}: a grid does not read it. Choose sweep=tpe or sweep=asha, or drop it.")
    if sweep.resume and Path(sweep.resume).resolve() != Path(config.hydra.sweep.dir).resolve():
        raise UserError(f"sweep.resume: give it on the command line, as sweep.resume={sweep.resume}.")


class SweepTable(Callback):
    """Ends a sweep with one table over its runs, and with exit code 1 if one has failed.

    Args:
        maximize: Keys of `summary.json` of which more is better.
        minimize: Keys of which less is better.
        monitor: The monitored metric, whose best value is `train/best`.
        monitor_mode: Which value of it is the best, max or min; None goes by its name.
    """

    def __init__(
        self, maximize: Sequence[str], minimize: Sequence[str], monitor: str, monitor_mode: str | None = None
    ) -> None:
        self._objectives = objectives(maximize, minimize, monitor, monitor_mode)

    def on_multirun_start(self, config: Any, **_: Any) -> None:  # noqa: ANN401 (Hydra's signature)
        """Refuse settings of `sweep` that no one reads, before the first run."""
        with telling_errors():
            _check_sweep(config)

    def on_job_start(self, config: Any, **_: Any) -> None:  # noqa: ANN401 (Hydra's signature)
        """Record a job that another launcher than ours has called: it leaves no record itself."""
        if config.hydra.mode == RunMode.MULTIRUN:
            words = tuple(config.hydra.overrides.task)
            chosen = {key: value for key, _, value in (word.partition("=") for word in words)}
            Trial(RunDir(config.hydra.runtime.output_dir), words, chosen).became("running")

    def on_multirun_end(self, config: Any, **_: Any) -> None:  # noqa: ANN401 (Hydra's signature)
        """Print and write the table."""
        from sempa_lightning.sweeps.table import tabulate
        from sempa_lightning.terminal import Terminal

        sweep = SweepDir(config.hydra.sweep.dir)
        for trial in recorded_trials(sweep):
            if trial.state == "running":  # of another launcher
                done = trial.run.summary.is_file()
                trial.became("done") if done else trial.became("failed", "ended without a summary: see what it printed")
        tabulate(sweep, self._objectives, Terminal())
        if any(trial.state == "failed" for trial in recorded_trials(sweep)):
            sys.exit(1)


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(cfg: Any) -> float | None:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Hydra's door; a job that ends early does not end a sweep whose launcher has called it in this process."""
    hydra_config = HydraConfig.get()
    try:
        with telling_errors():
            resume = cfg.resume is not None
            if resume:
                cfg = resumed_config(cfg, list(hydra_config.overrides.task), trust=trusted(cfg.trust))
            # A run is the same in any sweep, and trust is given anew each time.
            cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in ("sweep", "trust")])
            if not resume:
                _refuse_idle(cfg, hydra_config.overrides.task)
            cfg = checked(cfg, fields(), PASSED, saved=resume)
            _check(cfg, hydra_config.run.dir)
            settle_dtype(cfg, "cpu" if cfg.trainer.get("accelerator") == "cpu" else None)
            if cfg.preflight:
                from sempa_lightning.preflight import preflight

                if not preflight(cfg):
                    sys.exit(1)
                return None
            run = RunDir(cfg.paths.run_dir)
            resume = resume or _has_begun(run, cfg)
            with stopping_on_signals(f"resume={run.path}", lambda: bool(run.resumable_checkpoints)), ending_wandb_run():
                return train(cfg, resume=resume)
    except SystemExit as end:
        if hydra_config.mode != RunMode.MULTIRUN or end.code == STOPPED:
            raise
        return None


if __name__ == "__main__":
    run_main(main)
