"""Random numbers that a resumed run goes on with."""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer


class RandomStates(Callback):
    """Keeps the generators of all processes in the checkpoint, so that a run with dropout resumes bit for bit.

    Where a run goes on with more processes than it had, the new ones start from the seed.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002 (Lightning's signature)
        """Add the states of all processes, by rank."""
        states = [random_state()] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, states[0])
        checkpoint["random_states"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002 (Lightning's signature)
        """Take this process's state up; nothing may draw from the generators between here and the first step."""
        states = checkpoint.get("random_states", [])
        if trainer.global_rank < len(states):
            set_random_state(states[trainer.global_rank])


def random_state() -> dict[str, Any]:
    """States of the generators of Python, NumPy, torch and this process's CUDA device, as plain values and tensors."""
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    state = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Take up what `random_state` gave; a CUDA state is passed over where there is no device."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
