"""A report before it has a format: a title, the two halves of the claim, tables, pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sempa_lightning.evaluation.report.charts.changes import change_charts
from sempa_lightning.evaluation.report.charts.chart import COLOURS, Gallery
from sempa_lightning.evaluation.report.charts.curves import Logged, curve_charts
from sempa_lightning.evaluation.report.charts.layers import layer_charts
from sempa_lightning.evaluation.report.charts.trade import trade_chart
from sempa_lightning.evaluation.report.comparison import Comparison
from sempa_lightning.evaluation.report.folder import Evaluation
from sempa_lightning.evaluation.report.headline import Statement, statements
from sempa_lightning.evaluation.report.metric_tables import metric_table, numbers_table
from sempa_lightning.evaluation.report.notes import example_tables, failures_table, notes_table
from sempa_lightning.evaluation.report.papers import papers_of
from sempa_lightning.evaluation.report.rows import Row, facets, make_rows
from sempa_lightning.evaluation.report.seeds_table import seeds_table
from sempa_lightning.evaluation.report.subjects_table import subjects_tables
from sempa_lightning.evaluation.report.suite import FAMILIES, family
from sempa_lightning.evaluation.report.suite_tables import suite_table
from sempa_lightning.evaluation.report.table import NOTHING, Cell, Line, Table


@dataclass(frozen=True)
class Report:
    """All that a report shows.

    Attributes:
        title: Its heading.
        subtitle: What belongs to the heading.
        claims: For each row the statements on embeddings and on generation.
        tables: In the order in which they are shown.
        galleries: Drawn from the numbers.
        pictures: Files that tasks have drawn.
        configs: Text of each folder's config, by folder.
        outputs: By folder the end of what a run printed that failed.
    """

    title: str
    subtitle: str = ""
    claims: tuple[tuple[Row, tuple[Statement, ...]], ...] = ()
    tables: tuple[Table, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    pictures: tuple[Path, ...] = ()
    configs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()


def joined(first: Report, second: Report) -> Report:
    """Two reports as one."""
    return Report(
        f"{first.title}; {second.title}",
        " · ".join(filter(None, (first.subtitle, second.subtitle))),
        first.claims + second.claims,
        first.tables + second.tables,
        first.galleries + second.galleries,
        first.pictures + second.pictures,
        first.configs + second.configs,
        first.outputs + second.outputs,
    )


def make_report(evaluations: Sequence[Evaluation], paper: str | None) -> Report:
    """Compare evaluations.

    Args:
        evaluations: The folders, read.
        paper: The papers' model whose rows are shown; null takes the one that our base model is, if it is one.
    """
    comparison = Comparison(make_rows(evaluations))
    claims = tuple((row, tuple(said)) for row, said in statements(comparison))
    tables = _tables(evaluations, comparison, claims, paper)
    trade = trade_chart(comparison)
    charts = [*change_charts(comparison), *([trade] if trade else []), *layer_charts(comparison)]
    return Report(
        _title(evaluations, comparison),
        _subtitle(tables),
        claims,
        tuple(tables),
        (Gallery("At a glance", tuple(charts)), _curves(evaluations)),
        tuple(path for evaluation in evaluations for path in evaluation.pictures()),
        tuple((str(evaluation.path), evaluation.config_text) for evaluation in evaluations),
    )


def _curves(evaluations: Sequence[Evaluation]) -> Gallery:
    """How what was evaluated was trained."""
    logs = {
        evaluation.run.path.name if evaluation.run else evaluation.path.name: evaluation.log()
        for evaluation in evaluations
    }
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(logs))]
    logged = [Logged(name, colour, [log]) for (name, log), colour in zip(logs.items(), colours, strict=True) if log]
    legend = tuple((each.name, each.colour) for each in logged) if 1 < len(logged) <= len(COLOURS) else ()
    return Gallery("Training of what was evaluated", tuple(curve_charts(logged)), legend)


def _subtitle(tables: Sequence[Table]) -> str:
    """What all folders share of what a person asks first."""
    facts = {line.label: line.cells for table in tables if table.key == "measured" for line in table.lines}
    return " · ".join(
        f"{name} {facts[name][0].text}"
        for name in ("run", "readout", "layer", "seed")
        if name in facts and len(facts[name]) == 1
    )


def _title(evaluations: Sequence[Evaluation], comparison: Comparison) -> str:
    models = list(
        dict.fromkeys(Path(named["model"]).name for each in evaluations if (named := facets(each)).get("model"))
    )
    trained = any(row.trained for row in comparison.rows)
    what = "embeddings and generation" + (", before and after" if trained else "")
    return f"{', '.join(models)}: {what}" if models else what.capitalize()


def _tables(
    evaluations: Sequence[Evaluation],
    comparison: Comparison,
    claims: Sequence[tuple[Row, tuple[Statement, ...]]],
    paper: str | None,
) -> list[Table]:
    papers = papers_of(comparison.rows, paper)
    present = comparison.families()
    order = [known for known in FAMILIES if known.name in present]
    order += [family(name) for name in present if name not in {known.name for known in FAMILIES}]
    shown = [(suite_table if known.averaged else metric_table)(comparison, known, papers) for known in order]
    tables = [
        headline_table(claims),
        *subjects_tables(evaluations),
        failures_table(comparison.rows),
        *shown,
        seeds_table(comparison, papers),
        *example_tables(comparison.rows),
        numbers_table(comparison, [known.name for known in order], "numbers", "Every number") if order else None,
        notes_table(comparison.rows),
    ]
    return [table for table in tables if table is not None]


def headline_table(claims: Sequence[tuple[Row, tuple[Statement, ...]]]) -> Table | None:
    """The claims as a table."""
    sides = list(dict.fromkeys(said.side for _, row in claims for said in row))
    if not sides:
        return None
    lines = []
    for row, said in claims:
        found = {statement.side: statement.cell for statement in said}
        lines.append(Line(row.label, tuple(found.get(side, Cell(NOTHING)) for side in sides)))
    notes = tuple(dict.fromkeys(f"{statement.side}: {statement.what}." for _, said in claims for statement in said))
    return Table("headline", "In short", tuple(sides), tuple(lines), notes=notes)
