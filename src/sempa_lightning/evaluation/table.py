"""What a run did as tables: as rows for whoever shows them, and for a terminal of 80 columns."""

from collections.abc import Mapping
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from sempa_lightning.evaluation.samples import Samples

# A table: in each row the same columns, in the same order.
Rows = list[dict[str, str | float | None]]


class Change(NamedTuple):
    """What training did to a metric; None where there is no such number.

    Attributes:
        metric: `<suite>/<task>/<name>`.
        before: Its value before.
        after: Its value after.
        change: after - before.
        error: Standard error of the change.
    """

    metric: str
    before: float | None
    after: float | None
    change: float | None
    error: float | None


def changes(summary: Mapping[str, float]) -> list[Change]:
    """The change of each metric of a summary (see `summarize`)."""
    found = []
    for name in dict.fromkeys(key.partition("/")[2] for key in summary if key.startswith(("before/", "after/"))):
        before, after, error = (summary.get(f"{stage}/{name}") for stage in ("before", "after", "change_se"))
        change = None if before is None or after is None else after - before
        found.append(Change(name, before, after, change, error))
    return found


def neighbour_rows(before: Samples, after: Samples) -> Rows:
    """For each sentence and rank the nearest other with its cosine, before and after."""
    return [
        {"sentence": sentence, "before": old, "cosine before": near, "after": new, "cosine after": nearer}
        for sentence in before.neighbours
        if sentence in after.neighbours
        for (old, near), (new, nearer) in zip(before.neighbours[sentence], after.neighbours[sentence], strict=True)
    ]


def paraphrase_rows(before: Samples, after: Samples) -> Rows:
    """For each sentence its paraphrase, before and after."""
    return [
        {"sentence": sentence, "before": text, "after": after.paraphrases[sentence]}
        for sentence, text in before.paraphrases.items()
        if sentence in after.paraphrases
    ]


def print_summary(summary: Mapping[str, float], console: Console, title: str = "Before and after training") -> None:
    """Print each metric before and after, the change and its standard error; where nothing was trained, its value.

    Nothing is printed of no metrics.
    """
    table, changed = Table(title=title), any(key.startswith("after/") for key in summary)
    table.add_column("metric", overflow="fold")
    for heading in ("before", "after", "change", "± s.e.") if changed else ("value",):
        table.add_column(heading, justify="right")
    for name, before, after, change, error in changes(summary):
        cells = (_cell(before, ".4g"), _cell(after, ".4g"), _cell(change, "+.4f"), _cell(error, ".4f"))
        table.add_row(name, *(cells if changed else cells[:1]))
    if table.row_count:
        console.print(table)


def _cell(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def print_samples(before: Samples, after: Samples, console: Console) -> None:
    """Print nearest neighbours and paraphrases, before beside after."""
    for sentence in before.neighbours:
        table = Table(title=f"Nearest to: {sentence}", expand=True, show_lines=True)
        table.add_column("before", ratio=1)
        table.add_column("after", ratio=1)
        for old, new in zip(before.neighbours[sentence], after.neighbours[sentence], strict=True):
            table.add_row(f"{old[1]:.2f} {old[0]}", f"{new[1]:.2f} {new[0]}")
        console.print(table)
    table = Table(title="Greedy paraphrases", expand=True, show_lines=True)
    for heading in ("sentence", "before", "after"):
        table.add_column(heading, ratio=1)
    for sentence, old_text in before.paraphrases.items():
        table.add_row(sentence, old_text, after.paraphrases[sentence])
    if table.row_count:
        console.print(table)
