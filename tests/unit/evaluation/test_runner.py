"""What is no number is an error of its task."""

import json
import math

import pytest
import torch
from rich.console import Console

from sempa_lightning.data.scored_pairs import JsonlPairs
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.before_after import BeforeAfter
from sempa_lightning.evaluation.runner import measure, run_tasks
from sempa_lightning.evaluation.samples import SampleSpec
from sempa_lightning.evaluation.sts import Sts
from sempa_lightning.evaluation.task import Measurement


class Fixed:
    """A task that measures the same values each time."""

    missing = None

    def __init__(self, *values):
        self.values = values

    def run(self, subject, progress):  # noqa: ARG002
        return Measurement({"value": torch.tensor(self.values)})

    def metrics(self, items):
        return {"mean": float(items["value"].mean()), "count": float(len(items["value"]))}


@pytest.fixture
def pairs(tmp_path):
    def write(*scores):
        path = tmp_path / "pairs.jsonl"
        records = [{"sentence1": f"{n} cats", "sentence2": f"{n * n} dogs", "score": n} for n in scores]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return Sts(JsonlPairs(str(path)))

    return write


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_an_error(tiny_subject, value):
    with pytest.raises(UserError, match=f"mean is {value}, not a finite number"):
        measure(Fixed(1.0, value), tiny_subject, iter)
    assert len(measure(Fixed(1.0, value), tiny_subject, iter, allow_nonfinite=True).items["value"]) == 2


def test_the_task_is_named_or_left_out(tiny_subject):
    tasks, console, failed = {"a/bad": Fixed(math.nan), "a/good": Fixed(1.0)}, Console(quiet=True), {}
    with pytest.raises(UserError, match="after/a/bad: mean is nan"):
        run_tasks(tasks, tiny_subject, "after", console)
    assert run_tasks(tasks, tiny_subject, "after", console, failed).keys() == {"a/good"}
    assert failed.keys() == {"after/a/bad"}


def test_a_failure_after_training_loses_no_other_number(tiny_subject):
    task = Fixed(1.0, 2.0)
    comparison = BeforeAfter(
        {"a": {"task": task, "other": Fixed(3.0)}}, SampleSpec([], ["A cat."], 1, 4), tiny_subject, Console(quiet=True)
    )
    comparison.measure("before")
    task.values = (math.nan, 2.0)
    comparison.measure("after")
    assert comparison.failed.keys() == {"after/a/task"}
    assert comparison.suites()["a"].keys() == {"before/task", "before/other", "after/other"}
    assert {key for key in comparison.summary if key.endswith("mean")} == {
        "before/a/task/mean",
        "before/a/other/mean",
        "after/a/other/mean",
        "change_se/a/other/mean",
    }


def test_samples_that_fail_after_training_lose_no_number(tiny_subject):
    spec = SampleSpec(["A dog."], ["A cat."], 1, 4)
    comparison = BeforeAfter({"a": {"task": Fixed(3.0)}}, spec, tiny_subject, Console(quiet=True))
    comparison.measure("before")
    with torch.no_grad():
        tiny_subject.model.get_input_embeddings().weight.fill_(math.nan)
    comparison.measure("after")
    assert comparison.failed.keys() == {"after/samples"}
    assert comparison.summary["after/a/task/mean"] == 3
    assert not comparison.tables()["neighbours"]


def test_vectors_that_are_not_finite_name_their_sentence(tiny_subject, pairs):
    with torch.no_grad():
        tiny_subject.model.get_input_embeddings().weight[tiny_subject.tokenizer.encode("4")[-1]] = math.nan
    with pytest.raises(UserError, match=r"the embedding of '2?4 [a-z]+' is not finite: set model\.dtype=float32"):
        measure(pairs(1, 3, 4), tiny_subject, iter)


def test_a_correlation_that_is_undefined_is_an_error(tiny_subject, pairs):
    with pytest.raises(UserError, match="all gold scores are 3, so that a correlation is undefined"):
        measure(pairs(3, 3), tiny_subject, iter)
    with torch.no_grad():
        for parameter in tiny_subject.model.parameters():
            parameter.zero_()
    with pytest.raises(UserError, match="spearman is nan, not a finite number"):
        measure(pairs(1, 2, 3), tiny_subject, iter)
