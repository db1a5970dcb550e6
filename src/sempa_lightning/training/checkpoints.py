"""The training checkpoints of a run: which one is best, and from which one a run goes on."""

from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.training.jsonl_logger import cut_back
from sempa_lightning.training.module import TrainingModule


def load_best(trainer: Trainer, module: TrainingModule) -> str:
    """Put the best checkpoint's weights into the module.

    Returns:
        A line that says which weights the module holds now.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            checkpoint = torch.load(callback.best_model_path, map_location="cpu", weights_only=True)
            module.on_load_checkpoint(checkpoint)
            module.load_state_dict(checkpoint["state_dict"], strict=False)
            step = checkpoint["global_step"]
            return f"best checkpoint: step {step}, {callback.monitor} = {callback.best_model_score:.4f}"
    return f"no checkpoint was scored: the weights are those of the last step, {trainer.global_step}"


def best_score(trainer: Trainer) -> float | None:
    """The best value of the monitored metric, None if it was never taken."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_score is not None:
            return float(callback.best_model_score)
    return None


def resume_point(run: RunDir) -> Path:
    """The checkpoint to go on from; metrics that were logged after it are cut off.

    Raises:
        UserError: If the run has none.
    """
    last = run.last_checkpoint
    if not last.is_file():
        raise UserError(f"{run.path} has no checkpoint to go on from ({last.name}); start the run again")
    checkpoint = torch.load(last, map_location="cpu", weights_only=True)
    cut_back(run.metrics, checkpoint["global_step"])
    return last
