"""Any task or benchmark of mteb (Muennighoff et al. 2023) on the live policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sempa_lightning.assets import local_path
from sempa_lightning.checksums import discard, file_checksum, read_checked, write_checked
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.as_found import as_found
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject

_SEED = 42
# What mteb keeps of a score: a kept one and a fresh one are then the same.
_DECIMALS = 6


class MtebTask:
    """The main score of tasks of mteb, computed by mteb.

    Args:
        tasks: Names of mteb's tasks and benchmarks; a task object of mteb stands for itself.
        cache_dir: Folder where mteb keeps scores by weights and readout; null computes all anew.
    """

    def __init__(self, tasks: Sequence[Any], cache_dir: str | None = None) -> None:
        self._tasks = tasks
        self._cache_dir = cache_dir

    @property
    def missing(self) -> str | None:
        """None: whether mteb's data can be had, only trying tells."""
        return None

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Let mteb measure the subject; there is one item, with a score for each task.

        Raises:
            UserError: If mteb is not installed, does not know a task, or cannot get its data.
        """
        try:
            import mteb

            from sempa_lightning.evaluation.mteb_encoder import SubjectEncoder
        except ImportError as error:
            raise UserError("this task needs mteb: pip install 'sempa-lightning[eval]'") from error

        with as_found(subject.model, _SEED):
            encoder = SubjectEncoder(subject)
            cache = None if self._cache_dir is None else mteb.ResultCache(local_path(self._cache_dir))
            scores: dict[str, float] = {}
            for task in progress([member for name in self._tasks for member in _members(name)]):
                name = task.metadata.name
                kept = cache and cache.get_task_result_path(name, encoder.mteb_model_meta)
                if kept is not None:
                    _remove_damaged(kept)
                try:
                    result = mteb.evaluate(
                        encoder, task, cache=cache, co2_tracker=False, public_only=False, show_progress_bar=False
                    )
                except (OSError, ValueError) as error:
                    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                    raise UserError(f"mteb cannot run {name}: {reason}") from error
                if kept is not None:
                    write_checked(_checksum_file(kept), file_checksum(kept, kept.parent.name))
                scores[name] = round(float(result.task_results[0].get_score()), _DECIMALS)
        notes = {"mteb": mteb.__version__, "revision": encoder.mteb_model_meta.revision}
        return Measurement({name: torch.tensor([score], dtype=torch.float64) for name, score in scores.items()}, notes)

    def metrics(self, items: Items) -> dict[str, float]:
        """Each task's main score, and their mean if there are several."""
        scores = {name: float(values.mean()) for name, values in items.items()}
        return scores | ({"mean": sum(scores.values()) / len(scores)} if len(scores) > 1 else {})


def _checksum_file(kept: Path) -> Path:
    """Where the checksum of a file of mteb is; mteb takes what ends in `.json` for its own."""
    return kept.with_suffix(".checksum")


def _remove_damaged(kept: Path) -> None:
    """Remove a score that mteb has kept if it does not fit its checksum."""
    if kept.is_file() and read_checked(_checksum_file(kept)) != file_checksum(kept, kept.parent.name):
        discard(kept, "measuring again")


def _members(name: Any) -> list[Any]:  # noqa: ANN401 (a name or a task object)
    """The tasks that a name stands for.

    Raises:
        UserError: If mteb knows neither a task nor a benchmark of this name.
    """
    import mteb

    if not isinstance(name, str):
        return [name]
    try:
        return list(mteb.get_benchmark(name).tasks)
    except KeyError:
        try:
            return [mteb.get_task(name)]
        except KeyError as error:
            raise UserError(f"mteb {mteb.__version__} has no task and no benchmark {name!r}") from error
