"""A report on training runs before it has a format."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from sempa_lightning.artifacts import RunDir
from sempa_lightning.evaluation.report.charts.chart import COLOURS, Gallery
from sempa_lightning.evaluation.report.charts.curves import Logged, curve_charts
from sempa_lightning.evaluation.report.document import Report
from sempa_lightning.evaluation.report.folder import names_below
from sempa_lightning.masking import masked
from sempa_lightning.sweeps.report.charts.exchange import exchange_chart
from sempa_lightning.sweeps.report.charts.grids import grid_charts
from sempa_lightning.sweeps.report.charts.parallel import parallel_chart
from sempa_lightning.sweeps.report.colours import row_colours
from sempa_lightning.sweeps.report.rows import make_rows
from sempa_lightning.sweeps.report.run import Run
from sempa_lightning.sweeps.report.scores import best_first, embedding_score, final_scores, language_score
from sempa_lightning.sweeps.report.tables import ended_table, runs_table, states


def make_report(runs: Sequence[Run], out: Path) -> Report:
    """Compare runs.

    Args:
        runs: The runs, read.
        out: The folder that the report is written to.
    """
    above, names = names_below([run.folder.path for run in runs])
    rows = make_rows(runs, names)
    scores = final_scores(rows)
    first = scores[0] if scores else None
    rows = best_first(rows, first)
    embeddings, language = embedding_score(scores), language_score(scores)
    colours = row_colours([row for row in rows if any(run.log or run.summary for run in row.runs)])
    logged = [Logged(row.label, colour, [run.log for run in row.runs]) for row, colour in colours.items()]
    told = list(dict.fromkeys(score for score in (first, embeddings, language) if score))
    charts = [
        exchange_chart(rows, embeddings, language, colours),
        *(grid_charts(rows, first) if first else []),
        parallel_chart(rows, told, colours),
    ]
    drawn = sorted((chart for chart in charts if chart), key=lambda chart: chart.wide)
    few = len(colours) <= len(COLOURS)
    legend = tuple((each.name, each.colour) for each in logged) if few and len(logged) > 1 else ()
    note = f"From dark, the best{f' by {first.label}' if first else ''}, to pale: the colours are those of the table."
    ended = ended_table(rows, out)
    config = next((run.folder for run in runs if run.config), None)
    return Report(
        f"Run {names[0]}" if len(runs) == 1 else f"{len(runs)} runs of {above.name}",
        states(rows),
        tables=(runs_table(rows, scores, colours, above, out), *([ended] if ended else [])),
        galleries=(
            Gallery("Runs beside each other", tuple(drawn), legend, "" if few else note),
            Gallery("Curves", tuple(curve_charts(logged)), legend, "" if few else note),
        ),
        configs=((str(config.path), _config_text(config)),) if config else (),
        outputs=tuple(
            (name, run.last_words)
            for row in rows
            for name, run in zip(row.names, row.runs, strict=True)
            if run.state == "failed" and run.last_words
        ),
    )


def _config_text(run: RunDir) -> str:
    """Config of a run as its file holds it; masked where it was written with a secret."""
    config = run.read_config()
    shown = masked(config)
    if shown == config:
        return run.config.read_text(encoding="utf-8")
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
