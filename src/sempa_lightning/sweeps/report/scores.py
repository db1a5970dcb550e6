"""The final numbers of runs."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from sempa_lightning.evaluation.monitor import BEST
from sempa_lightning.evaluation.report.comparison import Value
from sempa_lightning.evaluation.report.metric import Display, display
from sempa_lightning.evaluation.report.suite import STS_TASKS, family, headline_metric, sts_task
from sempa_lightning.sweeps.report.rows import Row

_LANGUAGE = ("perplexity", "kl")


class Score(NamedTuple):
    """A final number.

    Attributes:
        label: Its name.
        keys: Of `summary.json`; the number is the mean of theirs.
        how: How it is shown.
    """

    label: str
    keys: tuple[str, ...]
    how: Display

    @property
    def heading(self) -> str:
        """The name with an arrow that says which way is better."""
        return self.how._replace(label=self.label).heading

    def value(self, row: Row) -> Value | None:
        """Mean and standard deviation over the seeds that have it, in its own unit; None if none has."""
        return _value(row, self.keys)

    def before(self, row: Row) -> Value | None:
        """The same before training; None for what is measured on the way."""
        earlier = [f"before/{key.removeprefix('after/')}" for key in self.keys if key.startswith("after/")]
        return _value(row, earlier) if earlier else None


def final_scores(rows: Sequence[Row]) -> list[Score]:
    """The best of the monitored metric, average STS, and of each task the metric that speaks for it.

    Of held-out text both perplexity and KL are shown.
    """
    every = dict.fromkeys(key for row in rows for run in row.runs for key in run.summary)
    tasks: dict[str, list[str]] = {}
    for key in every:
        if key.startswith("after/"):
            task, _, metric = key.removeprefix("after/").rpartition("/")
            tasks.setdefault(task, []).append(metric)
    scores = [_best(rows)] if BEST in every else []
    shown = {task: _shown(task, metrics) for task, metrics in tasks.items()}
    sts = [task for task in tasks if _family(task) == "sts"]
    if len(averaged := [task for task in sts if sts_task(task) in STS_TASKS] or sts) > 1:
        keys = tuple(f"after/{task}/{shown[task][0]}" for task in averaged)
        scores.append(Score(f"STS, average of {len(keys)}", keys, display(shown[averaged[0]][0])))
    for task, metrics in shown.items():
        scores += [
            Score(f"{task} {(how := display(metric)).label}", (f"after/{task}/{metric}",), how) for metric in metrics
        ]
    return scores


def embedding_score(scores: Sequence[Score]) -> Score | None:
    """What speaks for embeddings: STS."""
    return next((score for score in scores if _is_of(score, "sts")), None)


def language_score(scores: Sequence[Score]) -> Score | None:
    """What speaks for the language model: perplexity, else KL."""
    own = {score.keys[0].rpartition("/")[2]: score for score in reversed(scores) if _is_of(score, "generation")}
    return next((own[name] for name in _LANGUAGE if name in own), None)


def best_first(rows: Sequence[Row], score: Score | None) -> list[Row]:
    """The rows by a score; those without it come after, in their order."""

    def place(row: Row) -> float:
        value = score.value(row) if score else None
        if score is None or value is None:
            return math.inf
        return value.mean if score.how.better == "lower" else -value.mean

    return sorted(rows, key=place)


def _best(rows: Sequence[Row]) -> Score:
    monitors = {str(run.config.get("monitor")) for row in rows for run in row.runs if run.config}
    how = display(monitors.pop()) if len(monitors) == 1 else display("")
    return Score(BEST, (BEST,), how)


def _shown(task: str, metrics: Sequence[str]) -> list[str]:
    both = [name for name in _LANGUAGE if name in metrics] if _family(task) == "generation" else []
    return both or [str(headline_metric(task, metrics, {}))]


def _is_of(score: Score, name: str) -> bool:
    stage, _, task = score.keys[0].partition("/")
    return stage == "after" and _family(task) == name


def _family(task: str) -> str:
    return family(task.partition("/")[0]).name


def _value(row: Row, keys: Sequence[str]) -> Value | None:
    means = [
        statistics.fmean(run.summary[key] for key in keys)
        for run in row.runs
        if all(math.isfinite(run.summary.get(key, math.nan)) for key in keys)
    ]
    if not means:
        return None
    return Value(statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else None)
