"""What tasks gave, written as they end."""

import traceback
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sempa_lightning.artifacts import EvaluationDir
from sempa_lightning.checksums import discard, file_checksum, with_checksum
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Measurement
from sempa_lightning.files import replacing, write_json, write_text
from sempa_lightning.masking import masked_text

_REMEDY = "Measure it again with evaluate resume={}"


def write_result(
    folder: EvaluationDir, place: str, measured: Measurement, metrics: Mapping[str, float], seconds: float
) -> None:
    """Write what a task gave: its items, then its numbers, which say that it is done."""
    # A file of tensors holds no views.
    items = {name: values.detach().cpu().contiguous().clone() for name, values in measured.items.items()}
    with replacing(folder.items(place)) as temporary:
        save_file(items, temporary)
    found = file_checksum(folder.items(place), place)
    content = {"metrics": dict(metrics), "notes": measured.notes, "seconds": round(seconds, 3), "items": found}
    write_json(folder.result(place), with_checksum(content, place))
    folder.log(place).unlink(missing_ok=True)


def write_failure(folder: EvaluationDir, place: str, error: Exception, seconds: float) -> str:
    """Write why a task failed, in one line; where it is no matter for the user, its traceback goes to a log.

    Returns:
        The line.
    """
    first = masked_text(next(iter(str(error).strip().splitlines()), ""))
    line = first if isinstance(error, UserError) else ": ".join(filter(None, (type(error).__name__, first)))
    if not isinstance(error, UserError):
        write_text(folder.log(place), masked_text("".join(traceback.format_exception(error))))
    write_json(folder.result(place), {"failed": line, "seconds": round(seconds, 3)})
    return line


def read_measurement(folder: EvaluationDir, place: str) -> Measurement | None:
    """Read what a task measured, None if it is not done.

    Raises:
        UserError: If a file of it is damaged.
    """
    result = folder.read_result(place)
    return Measurement(read_items(folder, place, result), result.get("notes", {})) if "metrics" in result else None


def read_items(folder: EvaluationDir, place: str, result: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the items of a task.

    Args:
        folder: The evaluation.
        place: The task.
        result: What `EvaluationDir.read_result` gives for it.

    Raises:
        UserError: If they are damaged, or missing where the result names them.
    """
    path, written = folder.items(place), result.get("items")
    try:
        if written is not None and file_checksum(path, place) != written:
            raise UserError(f"{path}: checksum wrong. {_REMEDY.format(folder.path)}")
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable ({error}). {_REMEDY.format(folder.path)}") from error


def remove_damaged(folder: EvaluationDir, place: str) -> None:
    """Remove the result of a task if a file of it is damaged, so that the task is measured again."""
    try:
        read_measurement(folder, place)
    except UserError:
        discard(folder.result(place), f"measuring {place} again")


def failures(folder: EvaluationDir) -> dict[str, str]:
    """Why tasks failed, by place."""
    return {place: result["failed"] for place, result in folder.read_results().items() if "failed" in result}
