"""The rows of a report on runs: what tells runs apart, seeds together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sempa_lightning.evaluation.report.rows import shortened
from sempa_lightning.sweeps.report.run import Run
from sempa_lightning.sweeps.table import short

_MOST_KEYS = 10
_LONGEST = 32


@dataclass(frozen=True, eq=False)
class Row:
    """Runs that differ in their seeds alone.

    Attributes:
        runs: One for each seed.
        names: Names of their folders.
        settings: What tells them from other rows, as text by dotted key; a key that they lack is not there.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    settings: Mapping[str, str]

    @property
    def name(self) -> str:
        """The folders' names."""
        return ", ".join(self.names)

    @property
    def label(self) -> str:
        """What tells it from other rows, in short; its name where nothing does."""
        words = [f"{heading(key).rpartition('.')[2]} {value}" for key, value in self.settings.items()]
        return " · ".join(words) or self.name


def make_rows(runs: Sequence[Run], names: Sequence[str]) -> list[Row]:
    """Runs that agree but for their seeds become a row, in the order of the first of each.

    Where a sweep has recorded for all of them what was asked, runs are told apart by that; else by their configs.
    """
    by_words = all(run.words is not None for run in runs)
    known = [_asked(run, runs) if by_words else run.settings for run in runs]
    keys = _differing([settings for settings in known if settings])
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, settings in enumerate(known):
        # A run without a config may be anything.
        key = tuple(sorted(settings.items())) if settings or by_words else (("", str(place)),)
        groups.setdefault(key, []).append(place)
    return [
        Row(
            tuple(runs[place] for place in places),
            tuple(names[place] for place in places),
            {key: _text(key, known[places[0]][key]) for key in keys if key in known[places[0]]},
        )
        for group in groups.values()
        for places in _seeds(group, runs)
    ]


def heading(key: str) -> str:
    """A dotted key as it is shown: of a class, the name of its group.

    >>> heading("objective.loss._target_"), heading("optimizer.lr")
    ('objective.loss', 'optimizer.lr')
    """
    return key.removesuffix("._target_")


def number(text: str | None) -> float | None:
    """The number that a setting is; None if it is none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _asked(run: Run, runs: Sequence[Run]) -> dict[str, str]:
    """What was asked of any run, as this one has it: from its config, else from its own words."""
    found = {}
    for key in dict.fromkeys(key for other in runs for key in other.asked):
        value = run.settings.get(key, run.asked.get(key))
        if value is not None:
            found[key] = value if (exact := number(value)) is None else str(exact)  # 1e-3 is 0.001
    return found


def _differing(known: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose values differ, those near the root first.

    Of keys that say the same the first is kept; settings that only one of several classes has go without saying.
    """
    every = sorted(dict.fromkeys(key for settings in known for key in settings), key=lambda key: key.count("."))
    values = {key: tuple(settings.get(key) for settings in known) for key in every}
    differing = [key for key in every if len(set(values[key])) > 1]
    classes = tuple(key.removesuffix("_target_") for key in differing if key.endswith("._target_"))
    differing = [key for key in differing if None not in values[key] or not key.startswith(classes)]
    said = {(heading(key).rpartition(".")[2], values[key]): key for key in reversed(differing)}
    return [key for key in differing if key in said.values()][:_MOST_KEYS]


def _seeds(places: Sequence[int], runs: Sequence[Run]) -> list[list[int]]:
    """One group if all seeds differ; else each run for itself."""
    different = len({runs[place].seed for place in places}) == len(places)
    return [list(places)] if different else [[place] for place in places]


def _text(key: str, value: str) -> str:
    """A value in short: of a class its name, of a path its end."""
    if key.endswith("_target_"):
        return value.rpartition(".")[2]
    return shortened(Path(value).name if value.startswith(("/", "pkg://")) else short(value), _LONGEST)
