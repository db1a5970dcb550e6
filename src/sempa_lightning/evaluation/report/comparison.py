"""Rows beside each other: values, and changes against the base with their standard errors."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t as student

from sempa_lightning.evaluation.report.folder import BEFORE
from sempa_lightning.evaluation.report.interval import Interval, paired_interval
from sempa_lightning.evaluation.report.rows import Measured, Row
from sempa_lightning.evaluation.report.suite import family, headline_metric

Z95 = 1.96
# Draws for an interval from items: fewer for a sweep, which has very many changes.
_FEW_ROWS, _MANY_DRAWS, _FEW_DRAWS = 6, 1000, 200


class Value(NamedTuple):
    """A number; over several seeds the mean and their standard deviation."""

    mean: float
    sd: float | None = None


class Change(NamedTuple):
    """A change.

    Attributes:
        value: After - before; over seeds the mean.
        error: Standard error over items; over seeds the standard deviation between them. None where unknown.
        low: Lower end of the 95 % interval, or None.
        high: Upper end, or None.
    """

    value: float
    error: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def scaled(self, scale: float) -> "Change":
        """The same in another unit; `scale` is positive."""
        return Change(*(None if part is None else part * scale for part in self))  # type: ignore[arg-type]


class Comparison:
    """All rows of a report, compared.

    Args:
        rows: The rows; a trained one is compared with its own base, a base with the first row.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self._singles: dict[tuple[tuple[str, str], str, str], tuple[float, Interval | None] | None] = {}

    def tasks(self, name: str) -> list[str]:
        """Tasks of a family of suites that some row has numbers of."""
        found = (
            task
            for row in self.rows
            for member in row.members
            for task, result in member.results.items()
            if result.metrics
        )
        return [task for task in dict.fromkeys(found) if family(task.partition("/")[0]).name == name]

    def families(self) -> list[str]:
        """Families that some row has numbers of."""
        found = (task.partition("/")[0] for row in self.rows for member in row.members for task in member.results)
        return list(dict.fromkeys(name for suite in found if self.tasks(name := family(suite).name)))

    def metrics(self, task: str) -> list[str]:
        """Metrics that some row has of a task."""
        found = (
            name
            for row in self.rows
            for member in row.members
            if task in member.results
            for name in member.results[task].metrics
        )
        return list(dict.fromkeys(found))

    def headline(self, task: str) -> str | None:
        """The metric that speaks for a task."""
        for row in self.rows:
            if (result := row.members[0].results.get(task)) and result.metrics:
                return headline_metric(task, result.metrics, result.notes)
        return None

    def value(self, row: Row, numbers: Sequence[tuple[str, str]]) -> Value | None:
        """Mean of some numbers, each a task and a metric; None if one is not there."""
        means = []
        for member in row.members:
            values = [_number(member, task, metric) for task, metric in numbers]
            known = [value for value in values if value is not None]
            if not known or len(known) < len(values):
                return None
            means.append(statistics.fmean(known))
        return Value(statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else None)

    def change(self, row: Row, numbers: Sequence[tuple[str, str]]) -> Change | None:
        """Change of the mean of some numbers against the base; None if one is not there or the row is the base.

        Standard errors of tasks are independent, for so are their items: that of the mean is √Σse² / n. Over seeds
        the interval is Student's, from the changes of the seeds.
        """
        singles = [self._member_change(member, numbers) for member in row.members]
        known = [change for change in singles if change is not None]
        if not known or len(known) < len(singles):
            return None
        if len(known) == 1:
            return known[0]
        values = [change.value for change in known]
        mean, sd = statistics.fmean(values), statistics.stdev(values)
        half = float(student.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
        return Change(mean, sd, mean - half, mean + half)

    def base(self, member: Measured) -> Measured | None:
        """What a subject is compared with."""
        if member.subject != BEFORE and BEFORE in member.evaluation.results:
            return Measured(member.evaluation, BEFORE)
        first = self.rows[0].members[0]
        return None if first.key == member.key else first

    def at_chance(self, row: Row, task: str) -> bool:
        """Whether the base of a row is at chance on a task, so that the task cannot speak."""
        member = row.members[0]
        base = self.base(member) if row.trained else member
        result = (base or member).results.get(task)
        return bool(result and result.notes.get("at_chance"))

    def _member_change(self, member: Measured, numbers: Sequence[tuple[str, str]]) -> Change | None:
        singles = [self._single(member, task, metric) for task, metric in numbers]
        known = [single for single in singles if single is not None]
        if not known or len(known) < len(singles):
            return None
        value = statistics.fmean(change for change, _ in known)
        spreads = [spread for _, spread in known if spread is not None]
        if len(spreads) < len(known):
            return Change(value)
        if len(spreads) == 1:
            return Change(value, *spreads[0])
        error = math.sqrt(sum(spread.se**2 for spread in spreads)) / len(spreads)
        return Change(value, error, value - Z95 * error, value + Z95 * error)

    def _single(self, member: Measured, task: str, metric: str) -> tuple[float, Interval | None] | None:
        key = (member.key, task, metric)
        if key not in self._singles:
            self._singles[key] = self._fresh(member, task, metric)
        return self._singles[key]

    def _fresh(self, member: Measured, task: str, metric: str) -> tuple[float, Interval | None] | None:
        base = self.base(member)
        old, new = (None if base is None else _number(base, task, metric)), _number(member, task, metric)
        if base is None or old is None or new is None:
            return None
        if base.evaluation is member.evaluation:
            result = member.results[task]
            se, ends = result.change_se.get(metric), result.change_ci95.get(metric)
            if se is not None:
                low, high = ends or (new - old - Z95 * se, new - old + Z95 * se)
                return new - old, Interval(se, low, high)
        first, second = (each.evaluation.items(each.subject, task) for each in (base, member))
        return new - old, paired_interval(
            first, second, old, new, _MANY_DRAWS if len(self.rows) <= _FEW_ROWS else _FEW_DRAWS
        )


def _number(member: Measured, task: str, metric: str) -> float | None:
    result = member.results.get(task)
    return None if result is None else result.metrics.get(metric)
