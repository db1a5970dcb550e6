"""The two halves of the claim: what embeddings gained, and what it cost in generation."""

from collections.abc import Sequence
from typing import NamedTuple

from sempa_lightning.evaluation.report.comparison import Change, Comparison, Value
from sempa_lightning.evaluation.report.metric import Display, display
from sempa_lightning.evaluation.report.rows import Row
from sempa_lightning.evaluation.report.suite import FAMILIES
from sempa_lightning.evaluation.report.suite_tables import Column, average_column, task_columns
from sempa_lightning.evaluation.report.table import NOTHING, Cell, change_cell, interval_text, value_cell

_FAMILIES = {known.name: known for known in FAMILIES}
# Where benchmarks cannot speak, held-out text does.
_TEXT = ("next_token_accuracy", "perplexity", "kl")
# 0 before training and never negative: a change of it says nothing about quality.
_DISTANCE = "kl"


class Statement(NamedTuple):
    """One half of the claim for one row.

    Attributes:
        side: `Embeddings` or `Generation`.
        what: What the number is.
        cell: The change; for a base model its value.
        verdict: In words.
        details: Further numbers, each with a name.
    """

    side: str
    what: str
    cell: Cell
    verdict: str
    details: tuple[tuple[str, str], ...] = ()


def embedding_column(comparison: Comparison) -> Column | None:
    """What speaks for embeddings: average STS."""
    average = average_column(_FAMILIES["sts"], task_columns(comparison, _FAMILIES["sts"]))
    return None if average is None else average._replace(label=_tasks(average))


def generation_column(comparison: Comparison) -> Column | None:
    """What speaks for generation: the average of the benchmarks that can, else next-token accuracy on held-out text."""
    columns = task_columns(comparison, _FAMILIES["harness"])
    average = average_column(_FAMILIES["harness"], columns)
    if average is None:
        text = _text_column(comparison, _TEXT[0]) or _text_column(comparison, _TEXT[1])
        remark = f" (all {len(columns)} benchmarks are at chance)" if columns else ""
        return None if text is None else text._replace(label=text.label + remark)
    silent = len(columns) - len(average.numbers)
    return average._replace(label=_tasks(average) + (f" ({silent} at chance left out)" if silent else ""))


def _tasks(average: Column) -> str:
    return average.label if len(average.numbers) > 1 else average.numbers[0][0]


def statements(comparison: Comparison) -> list[tuple[Row, list[Statement]]]:
    """The claim of each trained row; of each base where nothing was trained."""
    trained = [row for row in comparison.rows if row.trained]
    return [(row, _of_row(comparison, row)) for row in trained or comparison.rows]


def _of_row(comparison: Comparison, row: Row) -> list[Statement]:
    sides = (("Embeddings", embedding_column(comparison)), ("Generation", generation_column(comparison)))
    return [_statement(comparison, row, side, column) for side, column in sides if column is not None]


def _statement(comparison: Comparison, row: Row, side: str, column: Column) -> Statement:
    value = comparison.value(row, column.numbers)
    change = comparison.change(row, column.numbers) if row.trained else None
    details = [(label, _detail(comparison, row, other)) for label, other in _others(comparison, side, column)]
    details += _tasks_of(comparison, column)
    if change is None:
        return Statement(side, what(column), value_cell(value, column.how), "", tuple(details))
    if value is not None:
        details.insert(0, ("from → to", _from_to(value, change, column.how)))
    cell = change_cell(change, column.how)
    others = _clear_changes(comparison, row, [*_parts(comparison, column), *_others(comparison, side, column)])
    verdict = _verdict(cell, row, column, [text for mood, text in others if mood != cell.mood])
    return Statement(side, what(column), cell, verdict, tuple(details))


def what(column: Column) -> str:
    """Say what a column's numbers are."""
    metric = column.how.label if len({name for _, name in column.numbers}) == 1 else "score"
    return f"{metric} × 100, {column.label}" if column.how.scale != 1 else f"{metric}, {column.label}"


def _verdict(cell: Cell, row: Row, column: Column, others: Sequence[str]) -> str:
    """Say whether the change is clear; `no change` only where no other metric changed clearly.

    Args:
        cell: The change.
        row: What changed.
        column: The metric.
        others: Clear changes of other metrics in another direction, in words.
    """
    interval = interval_text(cell, column.how.digits)
    if interval is None:
        return "; ".join(["no interval: the folder holds no standard error", *others])
    spread = "± standard deviation over seeds" if len(row.members) > 1 else "± standard error over items"
    if cell.mood is not None:
        return "; ".join([f"{cell.mood}; 95 % interval {interval} ({spread})", *others])
    if others:
        label = column.how.label if len(column.numbers) == 1 else column.label
        return "; ".join([f"{label}: 95 % interval {interval} holds 0 ({spread})", *others])
    return f"95 % interval {interval} holds 0: no change is shown ({spread})"


def _parts(comparison: Comparison, column: Column) -> list[tuple[str, Column]]:
    """The tasks of an average, each as a column of its own."""
    if len(column.numbers) == 1:
        return []
    tasks = [each for name in ("sts", "harness") for each in task_columns(comparison, _FAMILIES[name])]
    return [(each.label, each) for each in tasks if set(each.numbers) <= set(column.numbers)]


def _clear_changes(comparison: Comparison, row: Row, columns: Sequence[tuple[str, Column]]) -> list[tuple[str, str]]:
    """Changes whose interval leaves 0 out, each as its mood and in words."""
    found: list[tuple[str, str]] = []
    for label, column in columns:
        change = None if column.key == _DISTANCE else comparison.change(row, column.numbers)
        cell = change_cell(change, column.how)
        if cell.mood is not None:
            interval = interval_text(cell, column.how.digits)
            found.append((cell.mood, f"{label} is {cell.mood}: {cell.text.partition(' ±')[0]}, interval {interval}"))
    return found


def _tasks_of(comparison: Comparison, column: Column) -> list[tuple[str, str]]:
    """Names of the tasks of an average, and of those that it leaves out, as details."""
    inside = _parts(comparison, column)
    if not inside:
        return []
    names = [("tasks", ", ".join(label for label, _ in inside))]
    if column.numbers[0][0] in comparison.tasks("sts"):
        every = task_columns(comparison, _FAMILIES["sts"])
        rest = [each.label for each in every if not set(each.numbers) <= set(column.numbers)]
        names += [("left out", f"{', '.join(rest)}: not among the seven STS tasks of the paper")] if rest else []
    return names


def _others(comparison: Comparison, side: str, column: Column) -> list[tuple[str, Column]]:
    if side == "Embeddings":
        return []
    found = [(name, _text_column(comparison, name)) for name in _TEXT]
    return [(other.how.label, other) for _, other in found if other is not None and other.numbers != column.numbers]


def _detail(comparison: Comparison, row: Row, column: Column) -> str:
    value = comparison.value(row, column.numbers)
    change = comparison.change(row, column.numbers) if row.trained else None
    if value is None:
        return NOTHING
    if change is None:
        return value_cell(value, column.how).text
    return f"{_from_to(value, change, column.how)} ({change_cell(change, column.how).text})"


def _from_to(value: Value, change: Change, how: Display) -> str:
    return f"{how.number(value.mean - change.value)} → {how.number(value.mean)}"


def _text_column(comparison: Comparison, metric: str) -> Column | None:
    """A metric on the held-out text of the first task that has it."""
    for task in comparison.tasks("generation"):
        if metric in comparison.metrics(task):
            return Column(metric, task, ((task, metric),), display(metric))
    return None
