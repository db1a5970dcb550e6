"""Checkpoints of torch that hold tensors and plain values, and nothing that could run code."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sempa_lightning.checksums import is_whole_zip
from sempa_lightning.errors import UserError


def load_plain(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: If it is damaged or not one, or if it holds other objects: to unpickle those can run code.
    """
    if path.is_file() and not is_whole_zip(path):
        raise UserError(f"{path} is damaged, or not a checkpoint of torch: it was not read. Restore it.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds more than tensors and plain values: it was not read. Restore it.") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} is not a checkpoint: it holds {type(checkpoint).__name__}. Restore it.")
    return checkpoint
