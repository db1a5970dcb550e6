"""Is generation kept? Any task of lm-evaluation-harness on the live policy."""

import contextlib
import copy
import functools
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sempa_lightning.assets import local_path
from sempa_lightning.data.benchmarks import Documents
from sempa_lightning.data.flaw import check_readable
from sempa_lightning.data.missing import why_missing
from sempa_lightning.data.scored_pairs import strings_of
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.as_found import as_found
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.chance import at_chance, standard_error
from sempa_lightning.models.adapters import merged

_SEED = 1234
_SPLIT = "test"
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class HarnessTask:
    """A task or group of lm-evaluation-harness (Gao et al.), scored by the harness.

    No chat template, no cache, fixed seeds. Scores depend a little on batch size and precision; keep both in a
    comparison.

    Attributes:
        task: The harness's name of a task or of a group, or the YAML file of a task in its format (`pkg://…` for those
            of this package).
        metric: The number that counts, named as in the harness's results: `acc`, or `exact_match,strict-match` where
            answers are filtered. It must be a mean over documents.
        chance: What guessing scores; 0 for free text.
        documents: Documents that replace the data set which the YAML names; null leaves it.
        num_fewshot: Solved examples before each question; null is what the task says.
        limit: Documents used at most of each task (of each member of a group), the first ones; null uses all.
        batch_size: Requests of one forward pass.
        backend: Null scores the live policy. Else a model class of the harness that loads a folder, such as `vllm`:
            it gets the merged weights, written to a temporary folder.
    """

    task: str
    metric: str
    chance: float
    documents: Documents | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    batch_size: int = 16
    backend: str | None = None

    @property
    def missing(self) -> str | None:
        """Why the documents cannot be read, or None; whether the Hub has them, only trying tells."""
        return why_missing(self.documents)

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Let the harness score the subject; an item is a document.

        Raises:
            UserError: If the harness is not installed, does not know the task or metric, or cannot get its data.
        """
        try:
            from lm_eval import simple_evaluate
        except ImportError as error:
            raise UserError(
                f"the task {self.task} needs lm-evaluation-harness: pip install 'sempa-lightning[eval]'"
            ) from error

        with as_found(subject.model, _SEED), _quiet_harness(), self._model(subject, progress) as model:
            try:
                results = simple_evaluate(
                    **model,
                    tasks=[self._spec()],
                    task_manager=_task_manager(everything=not self._is_file),
                    num_fewshot=self.num_fewshot,
                    limit=self.limit,
                    bootstrap_iters=0,
                    random_seed=_SEED,
                    numpy_random_seed=_SEED,
                    torch_random_seed=_SEED,
                    fewshot_random_seed=_SEED,
                )
            except (OSError, ValueError, KeyError, ImportError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(f"lm-evaluation-harness cannot run {self.task}: {reason}") from error
            truncated = getattr(model["model"], "truncated", None)
        values = self._values(results)
        notes = {
            "documents": len(values),
            "num_fewshot": max(results["n-shot"].values()),
            "truncated": truncated,
            "chance": self.chance,
            "standard_error": standard_error(values),
            "at_chance": at_chance(values, self.chance),
        }
        return Measurement({self._name: values}, notes)

    def metrics(self, items: Items) -> dict[str, float]:
        """The mean over documents, 0 to 1 for shares of right answers."""
        return {self._name: float(items[self._name].mean())}

    @property
    def _name(self) -> str:
        return self.metric.partition(",")[0]

    @property
    def _is_file(self) -> bool:
        return local_path(self.task).suffix in (".yaml", ".yml")

    def _spec(self) -> str | dict[str, Any]:
        """What the harness is to load: a name, a YAML file, or a config with our documents in it."""
        if not self._is_file:
            if "/" in self.task or Path(self.task).is_file():  # the harness would read it as YAML that names functions
                raise UserError(f"task: {self.task} is not the name of a task. A task file must end in .yaml.")
            return self.task
        path = local_path(self.task)
        if not path.is_file():
            raise UserError(f"no task file {path}; give a YAML of lm-evaluation-harness or the name of a task")
        if self.documents is None:
            return str(path)
        config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return config | {"custom_dataset": functools.partial(_splits, self.documents)}

    @contextlib.contextmanager
    def _model(self, subject: Subject, progress: Progress) -> Iterator[dict[str, Any]]:
        """Lend the model arguments of the harness."""
        if self.backend is None:
            from sempa_lightning.evaluation.harness_model import LivePolicy

            yield {"model": LivePolicy(subject.model, subject.tokenizer, self.batch_size, progress)}
            return
        with tempfile.TemporaryDirectory() as folder:
            model = _merged(subject.model)
            model.save_pretrained(folder)
            subject.tokenizer.save_pretrained(folder)
            device = next(subject.model.parameters()).device.type
            arguments = {"pretrained": folder, "dtype": str(model.dtype).removeprefix("torch.")}
            yield {"model": self.backend, "model_args": arguments, "batch_size": self.batch_size, "device": device}

    def _values(self, results: dict[str, Any]) -> Float[Tensor, " documents"]:
        """The metric of each document, task after task."""
        samples = [sample for members in results["samples"].values() for sample in members]
        chosen = [sample for sample in samples if sample["filter"] == (self.metric.partition(",")[2] or "none")]
        numbers = [sample[self._name] for sample in chosen if isinstance(sample.get(self._name), int | float)]
        if not numbers or len(numbers) < len(chosen):
            known = sorted({f"{name},{sample['filter']}" for sample in samples for name in sample["metrics"]})
            raise UserError(f"{self.task} has no number {self.metric} for each document; it has {', '.join(known)}")
        values = torch.tensor(numbers, dtype=torch.float64)
        name = self.task if len(results["samples"]) > 1 else next(iter(results["samples"]))
        score = results["results"].get(name, {}).get(f"{self._name},{chosen[0]['filter']}")
        if isinstance(score, int | float) and abs(score - float(values.mean())) > _TOLERANCE:
            raise UserError(
                f"{self.task}: the harness's {self.metric} is no mean over documents; name another metric, or the"
                " members of the group one by one"
            )
        return values


def _splits(documents: Documents, **_: object) -> dict[str, Any]:
    """Documents as the harness takes them from a function; it also passes the task's metadata.

    Raises:
        UserError: If a text of a document is unreadable.
    """
    import datasets

    found = list(documents)
    for number, document in enumerate(found, 1):
        for text in strings_of(document):
            check_readable(text, f"document {number}: a text")
    return {_SPLIT: datasets.Dataset.from_list(found)}


def _merged(policy: nn.Module) -> Any:  # noqa: ANN401 (a model of the library, which is a mixture of classes)
    """A model without adapter layers that computes what the policy computes; a copy where the policy has an adapter."""
    if not isinstance(policy, PeftModel):
        return policy
    copied = copy.deepcopy(policy)
    off = any(layer.disable_adapters for layer in policy.modules() if isinstance(layer, BaseTunerLayer))
    return copied.unload() if off else merged(copied)


@functools.cache
def _task_manager(*, everything: bool) -> Any:  # noqa: ANN401 (a class of the harness)
    """The harness's list of its tasks, which takes seconds to make; empty where a file says all."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=everything)


@contextlib.contextmanager
def _quiet_harness() -> Iterator[None]:
    """Leave out the harness's warnings: that a model in memory is unusual, and each text that is cut (counted here).

    Nor is git asked for a commit, which it has none to tell of outside of a repository, and says so.
    """
    from lm_eval import evaluator

    logger = logging.getLogger("lm_eval")
    level, commit = logger.level, evaluator.get_git_commit_hash
    logger.setLevel(logging.ERROR)
    evaluator.get_git_commit_hash = lambda: None
    try:
        yield
    finally:
        logger.setLevel(level)
        evaluator.get_git_commit_hash = commit
