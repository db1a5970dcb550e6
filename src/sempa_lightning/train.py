"""`python -m sempa_lightning.train`: train a policy and show what it did to embeddings and to generation."""

import hydra
from omegaconf import DictConfig, OmegaConf

from sempa_lightning.entry import conf_dir, run_main


def train(cfg: DictConfig) -> float | None:
    """Build everything a run needs, fit, and return the monitored number."""
    from hydra.utils import instantiate
    from lightning import Trainer, seed_everything

    from sempa_lightning.training.module import TrainingModule

    seed_everything(cfg.seed, workers=True, verbose=False)
    language_model = instantiate(cfg.model, _convert_="all")
    policy, tokenizer = language_model
    datamodule = instantiate(cfg.data, tokenizer=tokenizer, _convert_="all")
    if cfg.compile:
        policy.compile()
    module = TrainingModule(
        policy,
        instantiate(cfg.objective, _convert_="all"),
        instantiate(cfg.optimizer, _convert_="all"),
        instantiate(cfg.scheduler, _convert_="all"),
        cfg.max_grad_norm,
    )
    trainer: Trainer = instantiate(
        cfg.trainer,
        callbacks=list(instantiate(cfg.callbacks, _convert_="all").values()),
        logger=list(instantiate(cfg.logger, _convert_="all").values()),
        default_root_dir=cfg.paths.run_dir,
        _convert_="all",
    )
    trainer.fit(module, datamodule)
    return None


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Hydra's door."""
    OmegaConf.resolve(cfg)
    return train(cfg)


if __name__ == "__main__":
    run_main(main)
