"""What a synthesis gave, for a terminal of 80 columns."""

from rich.console import Console
from rich.table import Table

from sempa_lightning.synthesis.assembly import Account


def print_account(sentences: int, account: Account, console: Console) -> None:
    """Print how many outputs are kept and why the others are not, and the first rows."""
    table = Table(title="Synthesis")
    table.add_column("")
    table.add_column("number", justify="right")
    for name, number in {"sentences": sentences, "outputs": account.outputs, "kept": account.kept}.items():
        table.add_row(name, f"{number:,}")
    for reason, number in account.rejected.most_common():
        table.add_row(f"rejected: {reason}", f"{number:,}")
    table.add_row("rows", f"{account.rows:,}")
    console.print(table)
    if account.examples:
        examples = Table(title="The first rows, with cosines", expand=True, show_lines=True)
        for heading, ratio in {"sentence": 1, "prompt": None, "chosen": 1, "rejected": 1}.items():
            examples.add_column(heading, ratio=ratio, overflow="fold")
        for chosen, rejected in account.examples:
            texts = ("\n".join(f"{draft.cosine:.2f} {draft.text}" for draft in part) for part in (chosen, rejected))
            examples.add_row(chosen[0].anchor, chosen[0].prompt, *texts)
        console.print(examples)
