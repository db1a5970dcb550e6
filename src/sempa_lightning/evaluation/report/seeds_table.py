"""The seeds of an experiment one by one, as SemPA's Table 8."""

from collections.abc import Sequence

from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.papers import Papers
from sempa_lightning.evaluation.report.rows import Row, seeds
from sempa_lightning.evaluation.report.suite import FAMILIES
from sempa_lightning.evaluation.report.suite_tables import (
    Column,
    average_column,
    paper_line,
    task_columns,
    with_average,
)
from sempa_lightning.evaluation.report.table import Line, Table, value_cell

_STS = next(family for family in FAMILIES if family.name == "sts")


def seeds_table(comparison: Comparison, papers: Papers) -> Table | None:
    """STS of each seed, with mean ± standard deviation; None if no row has several seeds."""
    rows = [row for row in comparison.rows if len(row.members) > 1]
    columns: list[Column] = task_columns(comparison, _STS)
    average = average_column(_STS, columns)
    if not rows or average is None:
        return None
    every = with_average(columns, average)
    lines = []
    for row in rows:
        for seed, member in zip(seeds(row), row.members, strict=True):
            lines.append(_line(comparison, Row(f"seed {seed}", (member,)), every, row.label))
        lines.append(_line(comparison, Row("mean ± sd", row.members), every, row.label))
    lines += [paper_line(row, every) for row in papers.rows("seeds")]
    return Table("seeds", "Seeds", tuple(column.label for column in every), tuple(lines), notes=("Spearman × 100.",))


def _line(comparison: Comparison, row: Row, columns: Sequence[Column], group: str) -> Line:
    return Line(
        row.label, tuple(value_cell(comparison.value(row, column.numbers), column.how) for column in columns), group
    )
