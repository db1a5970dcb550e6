"""A trial: one run of a sweep, and the record of it in the run's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

from sempa_lightning.artifacts import RunDir, SweepDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.monitor import BEST, monitor_mode
from sempa_lightning.files import read_object, write_json
from sempa_lightning.masking import masked

State = Literal["queued", "running", "done", "failed", "pruned"]
Direction = Literal["maximize", "minimize"]

# What is not run again.
ENDED: tuple[State, ...] = ("done", "pruned")


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        run: Its folder, named by the trial's number.
        words: All words of the command line that it was started with.
        chosen: By key, those that a sweep chose for it.
        state: What became of it; `queued` before it has begun. One that a killed sweep left behind stays `running`
            until somebody takes it up.
        why: Why it failed or was pruned.
    """

    run: RunDir
    words: tuple[str, ...]
    chosen: Mapping[str, str] = field(default_factory=dict)
    state: State = "running"
    why: str = ""

    @property
    def number(self) -> int:
        """Its number in the sweep."""
        return int(self.run.path.name)

    def __str__(self) -> str:
        return " ".join([str(self.number), *(f"{key}={value}" for key, value in self.chosen.items())])

    def became(self, state: State, why: str = "") -> "Trial":
        """The trial as it is now, and recorded so."""
        now = replace(self, state=state, why=why)
        content = asdict(now)
        del content["run"]
        write_json(self.run.trial, masked(content))
        return now


def objectives(
    maximize: Sequence[str], minimize: Sequence[str], monitor: str, mode: str | None
) -> dict[str, Direction]:
    """Return keys of `summary.json`, each with the direction in which it is better.

    Args:
        maximize: Keys of which more is better. `train/best` may stand here whatever the monitored metric is, for it is
            here by default: it has the direction of that metric.
        minimize: Keys of which less is better.
        monitor: The monitored metric.
        mode: Which value of it is the best (see `monitor_mode`).

    Raises:
        UserError: If something else than a list is given, or `train/best` is to be minimised and its largest value is
            the best.
    """
    for name, keys in {"maximize": maximize, "minimize": minimize}.items():
        if isinstance(keys, str) or not isinstance(keys, Sequence):
            raise UserError(f"sweep.{name}={keys} is no list: write sweep.{name}=[{keys}]")
    up: Direction = "maximize"
    down: Direction = "minimize"
    goals = {**dict.fromkeys(maximize, up), **dict.fromkeys(minimize, down)}
    if BEST in goals and monitor_mode(monitor, mode) == "min":
        goals[BEST] = down
    elif BEST in minimize:
        raise UserError(
            f"sweep.minimize=[{BEST}]: more of monitor={monitor} is better. Set monitor_mode=min to reverse it."
        )
    return goals


def recorded(run: RunDir) -> Trial:
    """Read the record of a run.

    Raises:
        UserError: If it is damaged.
    """
    content = read_object(run.trial)
    if (state := content.get("state", "running")) not in get_args(State):
        raise UserError(f"{run.trial}: state is {state!r}, not one of {', '.join(get_args(State))}. Restore the file.")
    try:
        return Trial(run, **content | {"words": tuple(content["words"])})
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.trial}: not a record of a trial. Restore the file.") from error


def recorded_trials(sweep: SweepDir) -> list[Trial]:
    """Read all trials of a sweep that have begun or wait, by number."""
    return [recorded(run) for run in sweep.runs]
