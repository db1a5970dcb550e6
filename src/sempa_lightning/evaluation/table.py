"""The before-and-after table of a run, for a terminal of 80 columns."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from sempa_lightning.evaluation.samples import Samples


def print_summary(summary: Mapping[str, float], console: Console, title: str = "Before and after training") -> None:
    """Print each metric before and after, the change and its standard error; where nothing was trained, its value."""
    table, changed = Table(title=title), any(key.startswith("after/") for key in summary)
    table.add_column("metric", overflow="fold")
    for heading in ("before", "after", "change", "± s.e.") if changed else ("value",):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(key.partition("/")[2] for key in summary if key.startswith(("before/", "after/"))):
        before, after, error = (summary.get(f"{stage}/{name}") for stage in ("before", "after", "change_se"))
        change = None if before is None or after is None else after - before
        cells = (_cell(before, ".4g"), _cell(after, ".4g"), _cell(change, "+.4f"), _cell(error, ".4f"))
        table.add_row(name, *(cells if changed else cells[:1]))
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
    console.print(table)
