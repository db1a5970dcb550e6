"""Results that papers give, as data, to set beside ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.report.rows import Row

_FOLDER = "pkg://sempa_lightning/assets/papers"


@dataclass(frozen=True)
class PaperRow:
    """One row of a paper's table.

    Attributes:
        table: Which table, with its paper and base model.
        model: The paper's name of the base model; None for a model of its own.
        method: What was done with it.
        values: Numbers by task or metric, in the paper's unit.
        average: The average that the paper prints, or None.
        matches: Which row of ours is the same: `stage` and, unless any will do, `readout`; empty if none is.
    """

    table: str
    model: str | None
    method: str
    values: Mapping[str, float]
    average: float | None
    matches: Mapping[str, str]

    def is_of(self, row: Row) -> bool:
        """Whether a row of ours was made in the same way."""
        stage = "after" if row.trained else "before"
        if self.matches.get("stage") != stage:
            return False
        return "readout" not in self.matches or self.matches["readout"] == row.facets.get("readout")


@dataclass(frozen=True)
class Papers:
    """What papers say of one base model.

    Attributes:
        model: Their name of it; None if our model is none of theirs, and then there are no rows.
    """

    model: str | None

    def rows(self, table: str) -> list[PaperRow]:
        """Rows of a kind of table (`sts`, `geometry`, `generation`, `seeds`) that are of the model."""
        return [row for row in _rows(table) if self.model is not None and row.model == self.model]


def papers_of(rows: Sequence[Row], wanted: str | None) -> Papers:
    """Find the papers' model that ours is, or take the one that is asked for.

    Raises:
        UserError: If the one that is asked for is in no paper.
    """
    models = {name: words for content in _contents() for name, words in content["models"].items()}
    if wanted is not None:
        if wanted not in models:
            raise UserError(f"no paper has a model {wanted}: choose among {', '.join(models)}")
        return Papers(wanted)
    ours = {row.facets.get("model", "").rstrip("/").rpartition("/")[2].lower() for row in rows}
    for name, words in models.items():
        if ours & {word.lower() for word in words}:
            return Papers(name)
    return Papers(None)


@cache
def _contents() -> tuple[dict[str, Any], ...]:
    return tuple(
        yaml.safe_load(local_path(f"{_FOLDER}/{name}.yaml").read_text(encoding="utf-8"))
        for name in ("sempa", "baselines")
    )


@cache
def _rows(table: str) -> tuple[PaperRow, ...]:
    rows = []
    for content in _contents():
        found = content["tables"].get(table)
        for row in found["rows"] if found else ():
            source = row.get("source") or f"{content['source'].partition(' (')[0]}, {found['table']}"
            rows.append(
                PaperRow(
                    ", ".join([source, *([row["model"]] if "model" in row else [])]),
                    row.get("model"),
                    row["method"],
                    dict(zip(found["columns"], row["values"], strict=True)),
                    row.get("average"),
                    content["methods"].get(row["method"], {}),
                )
            )
    return tuple(rows)
