"""Walk architectures and write their rows of docs/models.md.

python tests/architectures/docs_table.py [NAME …]; all of them if none is named.
"""

import json
import logging
import re
import sys
import tempfile
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from tiny import ARCHITECTURES, tiny_model
from walk import Outcome, walk

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
_BEGIN, _END = "<!-- table -->\n", "<!-- end of table -->\n"
_HEAD = (
    "| architecture | embed, evaluate | common prefix | scoring | LoRA on all-linear | export | note |\n"
    "|---|---|---|---|---|---|---|\n"
)


def row(architecture: str, outcome: Outcome) -> str:
    """A line of the table."""
    refused = outcome.refused
    embedded = "load" not in refused and "embed" not in refused
    if not embedded:
        return f"| {architecture} | refused | | | | | {_note(refused)} |"
    cells = [
        architecture,
        "refused" if "evaluate" in refused else "works",
        "once" if outcome.prefix else "each time",
        outcome.layout or "none",
        "refused" if "adapter" in refused else "works",
        "refused" if "export" in refused else "works",
        _note({step: text for step, text in refused.items() if step not in ("packed", "padded", "padded_right")}),
    ]
    return f"| {' | '.join(cells)} |"


def rows_of(page: Path) -> dict[str, str]:
    """The lines of the table in the docs, by architecture."""
    table = page.read_text().partition(_BEGIN)[2].partition(_END)[0]
    return {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()[2:]}


def cells(line: str) -> list[str]:
    """The cells of a line but for the note, which quotes libraries."""
    return [cell.strip() for cell in line.split(" | ")[:6]]


def _note(refused: dict[str, str]) -> str:
    notes = [re.sub(r"/\S+/base", "…", text).replace("|", "/").replace("\n", " ") for text in refused.values()]
    return "; ".join(dict.fromkeys(note[:160] for note in notes)).strip()


def outcome_row(architecture: str, tokenizer: object) -> str:
    """Build a model of an architecture and walk it."""
    try:
        model = tiny_model(architecture)
        with torch.no_grad():
            model(input_ids=torch.arange(1, 9)[None], use_cache=False)
    except Exception as error:  # transformers cannot run its own defaults, or needs a library that is not here
        reason = " ".join(str(error).split())[:100].replace("|", "/")
        return f"| {architecture} | not built | | | | | {type(error).__name__}: {reason} |"
    with tempfile.TemporaryDirectory() as folder:
        return row(architecture, walk(model, tokenizer, Path(folder)))


def main() -> None:
    """Write the table."""
    from sempa_lightning.assets import local_path
    from sempa_lightning.models.scratch import train_tokenizer

    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    lines = local_path("pkg://sempa_lightning/assets/demo/train.jsonl").read_text().splitlines()[:300]
    tokenizer = train_tokenizer([json.loads(line)["anchor"] for line in lines], 400)
    rows = rows_of(PAGE)
    for architecture in sys.argv[1:] or ARCHITECTURES:
        rows[architecture] = outcome_row(architecture, tokenizer)
        print(rows[architecture], flush=True)
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        table = "".join(f"{rows[name]}\n" for name in ARCHITECTURES if name in rows)
        PAGE.write_text(before + _BEGIN + _HEAD + table + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    main()
