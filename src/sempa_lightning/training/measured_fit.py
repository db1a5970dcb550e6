"""A training between two measurements."""

from pathlib import Path

from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from rich.console import Console
from torch import Tensor

from sempa_lightning.evaluation.before_after import BeforeAfter
from sempa_lightning.training.checkpoints import load_best
from sempa_lightning.training.module import TrainingModule
from sempa_lightning.training.setup import ending_together, is_first_process
from sempa_lightning.training.sharded import Sharded


def measured_fit(
    trainer: Trainer,
    module: TrainingModule,
    datamodule: LightningDataModule,
    checkpoint: Path | None,
    comparison: BeforeAfter,
    console: Console,
) -> dict[str, Tensor] | None:
    """Measure, train from the checkpoint on, take the best weights and measure again.

    The first process measures, before it starts the others; those that share the weights do so together.

    Returns:
        The trained weights, whole, where processes hold parts of them.
    """
    together, trained = isinstance(trainer.strategy, Sharded), None
    if together:
        measuring = LambdaCallback(on_fit_start=lambda *_: comparison.measure("before"))
        trainer.callbacks.insert(0, measuring)  # type: ignore[attr-defined]  # it has
    elif is_first_process():
        module.policy.to(trainer.strategy.root_device)
        comparison.measure("before")
    with ending_together(trainer):
        trainer.fit(module, datamodule, ckpt_path=checkpoint)
    if together or is_first_process():
        console.print(load_best(trainer, module))
        if together:
            trained = module.trained()
        else:
            module.policy.to(trainer.strategy.root_device)
        comparison.measure("after")
    return trained
