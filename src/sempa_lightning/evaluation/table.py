"""The before-and-after table of a run, for a terminal of 80 columns."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from sempa_lightning.evaluation.samples import Samples


def print_summary(summary: Mapping[str, float], console: Console) -> None:
    """Print each metric before and after, the change and its standard error."""
    table = Table(title="Before and after training")
    table.add_column("metric", overflow="fold")
    for heading in ("before", "after", "change", "± s.e."):
        table.add_column(heading, justify="right")
    for key, before in summary.items():
        stage, _, name = key.partition("/")
        if stage == "before":
            after, error = summary[f"after/{name}"], summary[f"change_se/{name}"]
            table.add_row(name, f"{before:.4g}", f"{after:.4g}", f"{after - before:+.4f}", f"{error:.4f}")
    console.print(table)


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
