"""`python -m sempa_lightning.train`: train a policy and show what it did to embeddings and to generation."""

import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from sempa_lightning.artifacts import RunDir, write_json, write_text
from sempa_lightning.entry import conf_dir, instantiate, resumed_config, run_main, telling_errors


def train(cfg: Any, *, resume: bool) -> float | None:  # noqa: ANN401 (as below)
    """Build everything a run needs; evaluate, fit, evaluate again.

    Returns:
        The best value of the monitored metric, or None if the run was too short to take it.
    """
    from rich.console import Console

    from sempa_lightning.evaluation.before_after import BeforeAfter
    from sempa_lightning.evaluation.task import Subject
    from sempa_lightning.models.adapters import save_policy
    from sempa_lightning.models.causal_lm import decoder
    from sempa_lightning.training.callbacks.probe import watch
    from sempa_lightning.training.checkpoints import AtomicCheckpointIO, best_score, load_best, starting_point
    from sempa_lightning.training.manifest import manifest
    from sempa_lightning.training.module import TrainingModule
    from sempa_lightning.training.setup import is_first_process, quieten, seed_everything

    quieten()
    run, console = RunDir(cfg.paths.run_dir), Console(quiet=not is_first_process())
    seed_everything(cfg.seed)
    model, tokenizer = instantiate(cfg.model)
    policy = instantiate(cfg.adapter).attach(model)
    reference = instantiate(cfg.reference, policy=policy)
    subject = Subject(
        policy, tokenizer, instantiate(cfg.readout), instantiate(cfg.prompt), reference, instantiate(cfg.scoring)
    )
    datamodule = instantiate(cfg.data, tokenizer=tokenizer)
    module = TrainingModule(
        policy,
        reference,
        instantiate(cfg.objective),
        instantiate(cfg.optimizer),
        instantiate(cfg.scheduler),
        cfg.max_grad_norm,
    )
    callbacks = list(instantiate(cfg.callbacks).values())
    watch(callbacks, subject)
    loggers = list(instantiate(cfg.logger).values())
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run.path))
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    checkpoint = starting_point(run, resume=resume)

    if is_first_process():
        datamodule.prepare_data()
        if not resume:
            write_text(run.config, OmegaConf.to_yaml(cfg))
            write_json(run.manifest, manifest(cfg.seed) | {"data": datamodule.counts})
        console.print(f"run folder: {run.path}\n{datamodule}", soft_wrap=True)
        policy.to(trainer.strategy.root_device)
        comparison = BeforeAfter(instantiate(cfg.eval), instantiate(cfg.samples), subject, console)
        comparison.measure("before")
    if cfg.compile:
        decoder(policy).compile()
    trainer.fit(module, datamodule, ckpt_path=checkpoint)
    if is_first_process():
        console.print(load_best(trainer, module))
        policy.to(trainer.strategy.root_device)
        comparison.measure("after")
        weights = save_policy(policy, tokenizer, run)
        for suite, results in comparison.suites().items():
            write_json(run.evaluation(suite), results)
        summary = comparison.summary | {"train/steps": float(trainer.global_step)}
        write_json(run.summary, summary)
        for logger in loggers:
            logger.log_metrics(summary, step=trainer.global_step)
        comparison.draw(run.picture, run.read_metrics(), cfg.monitor)
        comparison.print()
        console.print(f"{weights.name} and numbers are in {run.path}", soft_wrap=True)
    return best_score(trainer)


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(cfg: Any) -> float | None:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Hydra's door."""
    with telling_errors():
        resume = cfg.resume is not None
        if resume:
            cfg = resumed_config(cfg, list(HydraConfig.get().overrides.task))
        OmegaConf.resolve(cfg)
        if cfg.preflight:
            from sempa_lightning.preflight import preflight

            if not preflight(cfg):
                sys.exit(1)
            return None
        return train(cfg, resume=resume)


if __name__ == "__main__":
    run_main(main)
