"""What a process does before it trains."""

import atexit
import contextlib
import logging
import subprocess
import warnings
from collections.abc import Iterator

import lightning
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from sempa_lightning.errors import UserError


def is_first_process() -> bool:
    """Whether this process is the one that prints, evaluates and writes."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def seed_everything(seed: object) -> None:
    """Seed Python, numpy, torch and the workers of loaders.

    Raises:
        UserError: If the seed is not a whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UserError(f"seed={seed} is not a whole number")
    lightning.seed_everything(seed, workers=True, verbose=False)


@contextlib.contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """Where this process fails, let those that it has started end with it; where one of them has died, say which.

    Raises:
        UserError: Instead of what torch says of a connection to a process that died.
    """
    try:
        yield
    except BaseException as error:
        started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
        # Lightning leaves them waiting. Not before this one's own end, for Lightning kills it when one of them is.
        for process in started:
            atexit.register(process.kill)
        if not isinstance(error, RuntimeError) or "onnection" not in str(error):
            raise
        for rank, process in enumerate(started, 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if code := process.wait(timeout=1):
                    raise UserError(
                        f"process {rank} of this run died (exit code {code}): see what it printed, and whether memory"
                        " was short; resume=<run folder> goes on from the last checkpoint"
                    ) from error
        raise


def quieten() -> None:
    """Leave the terminal to progress bars and tables: no chatter of libraries below warnings."""
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib", "torch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It says which process has died before it ends the others.
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    # PEFT 0.21 asks transformers 5 for a property that it deprecates.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
    # The newer name of this method is not in all versions of transformers 5.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing_enable.*")
    # Lightning 2.6.6 still asks for a name that torch 2.13 deprecates.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # A base model without dropout is left in evaluation mode, as `load_causal_lm` made it.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Logged values are reduced over processes, or computed by each in the same way.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.* when logging on epoch level")
    # Where SLURM is at hand, and one process is meant.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used.*")
    # It does where a run goes on.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
