"""Hydra's sweeper on Optuna: trials are chosen one after the other from intervals and lists."""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper

from hydra_plugins.sempa.process_launcher import ProcessLauncher
from sempa_lightning.check import check_count
from sempa_lightning.config_check import check_value
from sempa_lightning.entry import instantiate, plain, trusted
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.monitor import BEST
from sempa_lightning.sweeps.trial import Trial, objectives


class StudySweeper(Sweeper):
    """Searches the keys that have several values, on the command line or in `params`; `sweep` says how.

    Lists (`a,b`, `choice(a,b)`, `range(1,9)`, `glob(*)`) are unordered; `interval(0.1,0.9)` is continuous,
    `int(interval(2,32))` of whole numbers, and `tag(log,interval(1e-5,1e-2))` logarithmic.

    Args:
        params: Values by key, written as on the command line, which wins.
    """

    hydra_context: Any  # what `validate_batch_is_legal` needs
    config: Any

    def __init__(self, params: Mapping[str, str]) -> None:
        self._params = params

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:  # noqa: ANN401 (Hydra's signature)
        """Build the launcher.

        Raises:
            UserError: If it cannot run one trial after the other, nor stop one.
        """
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)
        if not isinstance(launcher, ProcessLauncher):
            raise UserError("sweep=tpe and sweep=asha need hydra/launcher=processes, whose prefix may be that of srun")
        self._launcher = launcher

    def sweep(self, arguments: list[str]) -> None:
        """Search.

        Raises:
            UserError: If there is nothing to choose, no number of trials, or no Optuna.
        """
        trials_in_all: object = self.config.sweep.trials
        check_count("sweep.trials", trials_in_all)
        words = [*(f"{key}={values}" for key, values in self._params.items()), *arguments]
        parsed = OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words)
        overrides = {override.get_key_element(): override for override in parsed}
        varied = {key: override for key, override in overrides.items() if override.is_sweep_override()}
        if not varied:
            raise UserError("nothing to search: give a key several values, such as loss.beta='interval(0.01,1)'")
        fixed = [str(override.input_line) for key, override in overrides.items() if key not in varied]
        for key, override in varied.items():
            if override.is_interval_sweep():
                _check_interval(self.config, key, override)
        self.validate_batch_is_legal([[*fixed, *tried] for tried in _each_value_once(varied)])
        self._launcher.begin()
        search, space = self._search(), {key: _distribution(override) for key, override in varied.items()}

        def trials() -> Iterator[Trial]:
            for number, values in search.choices(space, self.config.sweep.trials):
                chosen = {key: str(value) for key, value in values.items()}
                yield self._launcher.trial(number, [*fixed, *(f"{k}={v}" for k, v in chosen.items())], chosen)

        with search.telling():
            for trial in self._launcher.run(trials(), search.hopeless):
                search.tell(trial)

    def _search(self) -> Any:  # noqa: ANN401 (`Search`, whose module needs Optuna)
        try:
            from optuna.pruners import NopPruner

            from sempa_lightning.sweeps.search import Search
        except ImportError as error:
            raise UserError("sweep=tpe and sweep=asha need Optuna: pip install 'sempa-lightning[sweep]'") from error
        settings, path = self.config.sweep, self._launcher.sweep.study
        monitored = self.config.monitor, self.config.get("monitor_mode")
        goals, pruner = objectives(settings.maximize, settings.minimize, *monitored), instantiate(settings.pruner)
        if not goals:
            raise UserError("a search needs an objective: give sweep.maximize or sweep.minimize a key of summary.json")
        if not isinstance(pruner, NopPruner) and list(goals) != [BEST]:
            raise UserError(f"sweep=asha prunes by what the probe reports: its one objective is {BEST}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return Search(
            path,
            goals,
            instantiate(settings.sampler),
            pruner,
            seed=settings.seed,
            monitor=self.config.monitor,
            pickles="optuna" in trusted(self.config.trust),
        )


def _each_value_once(varied: Mapping[str, Override]) -> list[list[str]]:
    """Lists of words in which each value of a list is found, and of an interval its start."""
    values = {key: _tried(override) for key, override in varied.items()}
    rows = range(max(map(len, values.values())))
    return [[f"{key}={tried[row % len(tried)]}" for key, tried in values.items()] for row in rows]


def _tried(override: Override) -> list[str]:
    interval: Any = override.value()
    return [str(interval.start)] if override.is_interval_sweep() else list(override.sweep_string_iterator())


def _check_interval(config: Any, key: str, override: Override) -> None:  # noqa: ANN401 (a DictConfig)
    """Check that a key takes what is drawn from an interval.

    Raises:
        UserError: If it does not, such as fractions for a whole number.
    """
    interval: Any = override.value()
    try:
        check_value(plain(config), key, interval.start)
        check_value(plain(config), key, interval.end)
    except UserError as error:
        raise UserError(f"{error} {override.input_line}: write int(interval(low,high)) for whole numbers.") from error


def _distribution(override: Override) -> Any:  # noqa: ANN401 (one of Optuna's)
    """The values that Optuna may choose.

    Raises:
        UserError: If there is none.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not override.is_interval_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    interval: Any = override.value()
    kind = IntDistribution if isinstance(interval.start, int) and isinstance(interval.end, int) else FloatDistribution
    try:
        return kind(interval.start, interval.end, log="log" in interval.tags)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error
