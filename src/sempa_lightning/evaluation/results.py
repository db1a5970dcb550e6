"""What tasks gave, written as they end."""

import traceback
from collections.abc import Mapping

from safetensors.torch import load_file, save_file

from sempa_lightning.artifacts import EvaluationDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Measurement
from sempa_lightning.files import replacing, write_json, write_text
from sempa_lightning.masking import masked_text


def write_result(
    folder: EvaluationDir, place: str, measured: Measurement, metrics: Mapping[str, float], seconds: float
) -> None:
    """Write what a task gave: its items, then its numbers, which say that it is done."""
    # A file of tensors holds no views.
    items = {name: values.detach().cpu().contiguous().clone() for name, values in measured.items.items()}
    with replacing(folder.items(place)) as temporary:
        save_file(items, temporary)
    content = {"metrics": dict(metrics), "notes": measured.notes, "seconds": round(seconds, 3)}
    write_json(folder.result(place), content)
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
    """Read what a task measured, None if it is not done."""
    result = folder.read_result(place)
    return Measurement(load_file(folder.items(place)), result["notes"]) if "metrics" in result else None


def failures(folder: EvaluationDir) -> dict[str, str]:
    """Why tasks failed, by place."""
    return {place: result["failed"] for place, result in folder.read_results().items() if "failed" in result}
