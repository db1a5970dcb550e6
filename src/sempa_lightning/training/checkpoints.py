"""The training checkpoints of a run: which one is best, and from which one a run goes on."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console

from sempa_lightning.artifacts import RunDir, relocated
from sempa_lightning.checksums import is_whole_zip, sign_zip
from sempa_lightning.errors import UserError
from sempa_lightning.files import replacing
from sempa_lightning.models.plain_checkpoint import load_plain
from sempa_lightning.training.jsonl_logger import cut_back
from sempa_lightning.training.module import TrainingModule
from sempa_lightning.training.setup import is_first_process


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a full disk leaves the earlier one whole.

    Lightning's own goes through the folder for temporary files; where that is another disk, it then copies over the
    earlier checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:  # noqa: ANN401, ARG002 (Lightning's signature)
        """Write the file."""
        _write(checkpoint, Path(path))

    def load_checkpoint(self, path: _PATH, *_: object, **__: object) -> dict[str, Any]:
        """Read the file onto the CPU."""
        return load_plain(Path(path))


def load_best(trainer: Trainer, module: TrainingModule) -> str:
    """Put the best checkpoint's weights into the module.

    Returns:
        A line that says which weights the module holds now.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            checkpoint = load_plain(Path(callback.best_model_path))
            module.on_load_checkpoint(checkpoint)
            trainer.strategy.load_model_state_dict(checkpoint, strict=False)
            if not (step := checkpoint["global_step"]):  # kept by a budget alone
                return "no checkpoint is within the KL budget: the weights are those from before the training"
            return f"best checkpoint: step {step}, {callback.monitor} = {callback.best_model_score:.4f}"
    return f"no checkpoint was scored: the weights are those of the last step, {trainer.global_step}"


def best_score(trainer: Trainer) -> float | None:
    """The best value of the monitored metric, None if it was never taken, infinitely bad if none is within a budget."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_score is not None:
            return float(callback.best_model_score)
    return None


def training_summary(trainer: Trainer) -> dict[str, float]:
    """A finished training as `summary.json` has it: its steps, and the best value of the monitored metric."""
    score = best_score(trainer)
    return {"train/steps": float(trainer.global_step)} | ({} if score is None else {"train/best": score})


def starting_point(run: RunDir, console: Console, *, resume: bool, max_steps: int) -> Path | None:
    """Return the checkpoint that training resumes from, the newest that is whole; None for a new run.

    Metrics that were logged after the checkpoint are cut off; a new run drops those of a start that came to none.

    Args:
        run: The folder of the run.
        console: Reports damaged checkpoints.
        resume: Whether the run resumes.
        max_steps: Steps of the run; -1 for no limit.

    Raises:
        UserError: If there is no checkpoint to resume from, or it has more than `max_steps` steps.
    """
    if is_first_process():
        run.remove_leftovers()
    if not resume:
        if is_first_process():
            run.metrics.unlink(missing_ok=True)
        return None
    newest = _newest_whole(run, console)
    if is_first_process():
        checkpoint = load_plain(newest)
        if 0 <= max_steps < (done := checkpoint["global_step"]):
            raise UserError(
                f"trainer.max_steps: {max_steps} is below the {done} steps that are done. Set {done} or more."
            )
        cut_back(run.metrics, checkpoint["global_step"])
        _follow(run, checkpoint, newest)
    return newest


def _newest_whole(run: RunDir, console: Console) -> Path:
    """The newest checkpoint that is whole; the first process removes newer ones, which are worth nothing."""
    found = run.resumable_checkpoints
    if not found:
        raise UserError(f"{run.path} has no checkpoint to go on from ({run.last_checkpoint.name}); start the run again")
    newest = next(filter(is_whole_zip, found), None)
    if newest is None:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{run.checkpoints} has no whole checkpoint ({names}): copy it again, or start the run again")
    for torn in found[: found.index(newest)]:
        console.print(f"{torn} is not whole: going on from the one before, {newest.name}", soft_wrap=True)
        if is_first_process():
            torn.unlink(missing_ok=True)
    return newest


def _follow(run: RunDir, checkpoint: dict[str, Any], path: Path) -> None:
    """Where the run folder was moved, let its checkpoint at `path` name the best one at its new place.

    Lightning would forget the best score otherwise.

    Raises:
        UserError: If the best one is damaged.
    """
    folder = str(run.checkpoints.resolve())
    states = checkpoint["callbacks"]
    moved = {name: relocated(state, state.get("dirpath", folder), folder) for name, state in states.items()}
    for state in moved.values():
        if state.get("monitor") and (best := state["best_model_path"]) and not is_whole_zip(Path(best)):
            raise UserError(f"{best} is not whole: copy it again, or start the run again")
    if moved != states:
        _write(checkpoint | {"callbacks": moved}, path)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    content = io.BytesIO()  # torch's own writer hides why it failed
    torch.save(checkpoint, content)
    sign_zip(content)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())
