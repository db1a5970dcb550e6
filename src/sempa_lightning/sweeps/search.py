"""Trials that Optuna chooses; its study is a file in the sweep's folder, and its numbers are those of the runs."""

import contextlib
import difflib
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from sempa_lightning.errors import UserError
from sempa_lightning.sweeps.trial import Direction, Trial


@runtime_checkable
class SamplerFactory(Protocol):
    """Makes what chooses, drawing random numbers from a seed."""

    def __call__(self, *, seed: int) -> BaseSampler:
        """Build the sampler."""


class Search:
    """A study that survives the process.

    What is chosen for a trial follows from the seed, the trial's number and the trials that have ended by then. So a
    sweep that is killed and resumed, one trial at a time, chooses what it would have chosen.

    Args:
        storage: SQLite file of the study; it is made, or gone on with.
        objectives: Keys of a run's `summary.json`, each with the direction in which it is better.
        sampler: Chooses.
        pruner: Says from the reports of one objective which trials are hopeless.
        seed: Where random choices start from.
        monitor: The metric that a run's probe reports for the objective.
        pickles: Whether the file may hold pickles; CMA-ES samplers keep their state so.

    Raises:
        UserError: If the file is no study, one with other directions, or one with pickles that are not allowed.
    """

    def __init__(
        self,
        storage: Path,
        objectives: Mapping[str, Direction],
        sampler: SamplerFactory,
        pruner: BasePruner,
        *,
        seed: int,
        monitor: str,
        pickles: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._objectives = objectives
        self._sampler = sampler
        self._seed = seed
        self._monitor = monitor
        self._storage = storage
        self._study = _opened(storage, list(objectives.values()), pruner)
        if not pickles and _pickles(self._study):
            raise UserError(f"{storage} holds pickles, which can run code. If you trust the file, set trust=[optuna].")
        self._asked: dict[int, optuna.Trial] = {}
        self._reported: dict[int, int] = {}

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Say in one line what has become of the file meanwhile.

        Raises:
            UserError: Instead of what Optuna says of it.
        """
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise _told(self._storage, error) from error

    def choices(self, space: Mapping[str, BaseDistribution], trials: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Choose a trial each time that one is asked for, until there are so many; those without an end come first.

        Yields:
            Number of a trial, and the value of each key.
        """
        for left in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.sampler = self._sampler(seed=_seed(self._seed, left.number))
            self._reported[left.number] = len(left.intermediate_values)
            yield left.number, self._choose(optuna.Trial(self._study, left._trial_id), space)
        while (number := len(self._study.get_trials(deepcopy=False))) < trials:
            self._study.sampler = self._sampler(seed=_seed(self._seed, number))
            self._reported[number] = 0
            yield number, self._choose(self._study.ask(), space)

    def _choose(self, trial: optuna.Trial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        self._asked[trial.number] = trial
        return {key: _suggest(trial, key, values) for key, values in space.items()}

    def hopeless(self, trial: Trial) -> str | None:
        """Report what the trial's probe has found since; why the trial should be pruned, None to let it go on.

        The first probe is step 1.
        """
        if len(self._objectives) > 1:
            return None  # Optuna takes reports of one objective only
        probes = [line[self._monitor] for line in trial.run.read_metrics() if self._monitor in line]
        for step in range(self._reported[trial.number] + 1, len(probes) + 1):
            self._asked[trial.number].report(probes[step - 1], step)
            self._reported[trial.number] = step
            if self._asked[trial.number].should_prune():
                return f"at probe {step}, {self._monitor} = {probes[step - 1]:.4g}"
        return None

    def tell(self, trial: Trial) -> None:
        """Record how a trial has ended; without a number for each objective it has failed.

        Raises:
            UserError: If none has given numbers so far and this one's summary knows no such key. Nothing is recorded,
                so that the trial counts once the key is right.
        """
        if trial.state == "pruned":
            self._study.tell(trial.number, state=TrialState.PRUNED)
            return
        summary = trial.run.read_summary() if trial.state == "done" else {}
        unknown = [key for key in self._objectives if key not in summary]
        if (
            trial.state == "done"
            and unknown
            and not self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ):
            raise UserError(
                f"{unknown[0]} is not in {trial.run.summary}: sweep.maximize and sweep.minimize want one that is, such"
                f" as {', '.join(difflib.get_close_matches(unknown[0], summary, cutoff=0.0))};"
                f" sweep.resume={self._storage.parent} goes on with another"
            )
        values = [summary.get(key, math.nan) for key in self._objectives]
        if any(map(math.isnan, values)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.state == "done":
                trial.became("failed", f"summary.json lacks a number for one of {', '.join(self._objectives)}")
        else:
            self._study.tell(trial.number, values)


def _opened(storage: Path, directions: list[Direction], pruner: BasePruner) -> optuna.Study:
    try:
        study = optuna.create_study(
            storage=RDBStorage(f"sqlite:///{storage}"),
            study_name="sweep",
            directions=directions,
            pruner=pruner,
            load_if_exists=True,
        )
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        raise _told(storage, error) from error
    begun = [direction.name.lower() for direction in study.directions]
    if begun != directions:  # Optuna goes on in the directions that the study began with
        raise UserError(
            f"{storage} was begun to {', '.join(begun)} and is asked to {', '.join(directions)}: set sweep.maximize and"
            " sweep.minimize as they were, or remove it, and the runs beside it are taken as trials of a new one"
        )
    return study


def _pickles(study: optuna.Study) -> bool:
    """Whether a study holds the state of a CMA-ES sampler: `cma:optimizer`, `sepcma:optimizer`, `cmawm:optimizer`."""
    keys = (key for trial in study.get_trials(deepcopy=False) for key in trial.system_attrs)
    return any("cma" in key.partition(":")[0] for key in keys)


def _told(storage: Path, error: Exception) -> UserError:
    """What Optuna, SQLAlchemy and SQLite say of the file of a study, in one line."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    reason = str(cause).splitlines()[0]
    if isinstance(cause, OperationalError):  # a full disk, a lock, a missing permission: the file is not to blame
        return UserError(f"{storage} cannot be used ({reason}): see to its disk, then resume the sweep")
    return UserError(
        f"{storage} cannot be read ({reason}): remove it, and the runs beside it are taken as trials of a new one"
    )


def _seed(seed: int, number: int) -> int:
    """A seed for each trial of each sweep."""
    return random.Random(f"{seed}/{number}").getrandbits(32)


def _suggest(trial: optuna.Trial, key: str, values: BaseDistribution) -> Any:  # noqa: ANN401 (text or number)
    if isinstance(values, FloatDistribution):
        return trial.suggest_float(key, values.low, values.high, log=values.log)
    if isinstance(values, IntDistribution):
        return trial.suggest_int(key, values.low, values.high, log=values.log)
    assert isinstance(values, CategoricalDistribution)
    return trial.suggest_categorical(key, values.choices)
