"""`python -m sempa_lightning.dashboard FOLDER`: a W&B workspace of what runs like this one log."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sempa_lightning.artifacts import RunDir
from sempa_lightning.entry import telling_errors
from sempa_lightning.errors import UserError
from sempa_lightning.sweeps.trial import recorded

# What is shown of the config where no sweep chose anything.
_SETTINGS = ("optimizer.lr", "data.batch_size", "seed")


class Panel(NamedTuple):
    """What a panel shows.

    Attributes:
        kind: Curves over steps, a point for each run, a line for each run, a table, or pictures.
        title: What stands above it.
        metrics: Keys that runs log; of points the horizontal one first.
        settings: Keys of the config, left of the metrics.
    """

    kind: Literal["curves", "points", "lines", "table", "pictures"]
    title: str
    metrics: tuple[str, ...]
    settings: tuple[str, ...] = ()


def panels(run: RunDir) -> list[Panel]:
    """Choose panels by what a finished run has logged; those that it has nothing for are left out."""
    monitor, summary = str(run.read_config()["monitor"]), run.read_summary()
    logged = list(dict.fromkeys(key for line in run.read_metrics() for key in line if key not in summary))
    quality = _ending(summary, f"/{monitor.rpartition('/')[2]}", start="after/sts/")
    cost = _ending(summary, "/perplexity", start="after/generation/")
    measured = ("changes",) if _ending(summary, "", start="after/") else ()
    chosen = [
        Panel("curves", monitor, _ending(logged, monitor)),
        Panel("curves", "KL from the reference, perplexity", _ending(logged, "/kl", "/perplexity")),
        Panel("curves", "reward margins", _ending(logged, "/rewards/margins")),
        Panel("curves", "reward accuracy", _ending(logged, "/rewards/accuracies")),
        Panel("curves", "loss", _ending(logged, "/loss")),
        Panel("points", "embeddings against generation", (*cost[:1], *quality[:1]) if cost and quality else ()),
        Panel("lines", "settings", (*_ending(summary, "train/best"), *cost[:1], *quality[:1]), _settings(run)),
        *(Panel("table", name, (f"tables/{name}",)) for name in (*measured, "neighbours", "paraphrases")),
        Panel("pictures", "pictures", tuple(f"pictures/{name}" for name in run.pictures)),
    ]
    return [panel for panel in chosen if panel.metrics]


def workspace(panels: Sequence[Panel], entity: str, project: str, name: str) -> Any:  # noqa: ANN401 (W&B's)
    """Build the workspace that has these panels; `save` uploads it.

    Raises:
        UserError: If what builds it is not installed.
    """
    try:
        from wandb_workspaces import workspaces
        from wandb_workspaces.reports import v2
    except ImportError as error:
        raise UserError("a dashboard needs wandb-workspaces: pip install 'sempa-lightning[dashboard]'") from error

    def built(panel: Panel) -> Any:  # noqa: ANN401 (one of W&B's panels)
        last = [v2.SummaryMetric(key) for key in panel.metrics]
        match panel.kind:
            case "curves":
                return v2.LinePlot(title=panel.title, x="trainer/global_step", y=list(panel.metrics))
            case "points":
                return v2.ScatterPlot(title=panel.title, x=last[0], y=last[1])
            case "lines":
                columns = [*(v2.Config(key) for key in panel.settings), *last]
                columns = [v2.ParallelCoordinatesPlotColumn(metric=column) for column in columns]
                return v2.ParallelCoordinatesPlot(title=panel.title, columns=columns)
            case "table":
                return v2.WeavePanelSummaryTable(table_name=panel.metrics[0])
            case "pictures":
                return v2.MediaBrowser(title=panel.title, media_keys=list(panel.metrics))

    kinds = {"over steps": ("curves",), "runs compared": ("points", "lines"), "samples": ("table", "pictures")}
    sections = [
        workspaces.Section(name=title, panels=[built(panel) for panel in panels if panel.kind in kinds], is_open=True)
        for title, kinds in kinds.items()
    ]
    return workspaces.Workspace(entity=entity, project=project, name=name, sections=sections)


def _ending(keys: Iterable[str], *ends: str, start: str = "") -> tuple[str, ...]:
    return tuple(key for key in keys if key.startswith(start) and key.endswith(ends))


def _settings(run: RunDir) -> tuple[str, ...]:
    """Keys of single values in the config: those that the sweep chose, if the run is of one."""

    def value(key: str) -> Any:  # noqa: ANN401 (any value of a config)
        return reduce(lambda node, part: node.get(part, {}) if isinstance(node, dict) else {}, key.split("."), config)

    config: Any = run.read_config()
    keys = recorded(run).chosen if run.trial.is_file() else _SETTINGS
    return tuple(key for key in keys if not isinstance(value(key), dict))


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="python -m sempa_lightning.dashboard", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "run", type=Path, metavar="FOLDER", help="a finished run with logger=wandb, of a sweep or alone"
    )
    parser.add_argument("--entity", help="user or team; yours unless given")
    parser.add_argument("--name", default="sempa_lightning", help="what the workspace is called")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, save the workspace and print where it is."""
    chosen = parser().parse_args(words)
    with telling_errors():
        run = RunDir.existing(chosen.run)
        logger = run.read_config()["logger"].get("wandb")
        if logger is None or not run.summary.is_file():
            raise UserError(f"{run.path} is no finished run with logger=wandb")
        shown = panels(run)
        import wandb

        try:
            entity = chosen.entity or str(wandb.Api().default_entity)
            sys.stdout.write(f"{workspace(shown, entity, logger['project'], chosen.name).save().url}\n")
        except (wandb.Error, OSError) as error:  # requests' errors are of the system
            raise UserError(f"W&B does not take the workspace: {error}") from error


if __name__ == "__main__":
    main()
