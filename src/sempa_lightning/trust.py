"""What a saved config may build: a folder is data, and only components that belong to a group are built from it."""

import importlib
import inspect
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePath
from types import ModuleType
from typing import Any, NamedTuple

from sempa_lightning.errors import UserError

_DATA = tuple(
    f"sempa_lightning.data.{name}"
    for name in (
        "benchmarks",
        "corpus.CorpusDataModule",
        "first_sentences",
        "labelled_texts",
        "negatives.Negatives",
        "preferences.PreferenceDataModule",
        "restate",
        "scored_pairs",
        "sources",
        "table",
        "text",
    )
)
_READOUT = (
    "sempa_lightning.models.readout",
    "sempa_lightning.models.steering",
    "sempa_lightning.pooling",
    "sempa_lightning.prompts",
)
_SCORING = ("sempa_lightning.scoring.packed", "sempa_lightning.scoring.padded")
_MODEL = ("sempa_lightning.models.causal_lm.load_causal_lm", "sempa_lightning.models.scratch", *_DATA)
_EVAL = (
    *(
        f"sempa_lightning.evaluation.{name}"
        for name in (
            "attention",
            "classification",
            "clustering",
            "generation",
            "geometry",
            "harness",
            "mteb_task",
            "pairs",
            "preference",
            "samples",
            "sts",
            "tokens",
            "transfer",
        )
    ),
    *_DATA,
    *_READOUT,
    *_SCORING,
)

# What each top-level key of a config may build: packages, modules, or single classes and functions, by where they are
# defined. Modules that write files, start processes or read pickles are in none of them.
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "adapter": tuple(f"sempa_lightning.models.adapters.{name}" for name in ("FullFineTuning", "Lora", "SavedAdapter")),
    "callbacks": ("sempa_lightning.training.callbacks", "lightning.pytorch.callbacks", *_EVAL),
    "data": (*_DATA, *_READOUT, *_SCORING),
    "divergence": ("sempa_lightning.losses",),
    "encoder": ("sempa_lightning.synthesis.encoders", *_MODEL, *_READOUT),
    "eval": _EVAL,
    "filters": ("sempa_lightning.synthesis.filters",),
    "logger": (
        "sempa_lightning.training.jsonl_logger.JsonlLogger",
        "sempa_lightning.training.wandb_logger.RunLogger",
        "lightning.pytorch.loggers.csv_logs",
        "lightning.pytorch.loggers.tensorboard",
    ),
    "loss": ("sempa_lightning.losses",),
    "model": _MODEL,
    "objective": ("sempa_lightning.training.objectives", "sempa_lightning.losses", *_READOUT),
    "optimizer": ("torch.optim",),
    "prompt": ("sempa_lightning.prompts",),
    "readout": _READOUT,
    "reference": ("sempa_lightning.scoring.reference",),
    "rows": ("sempa_lightning.synthesis.arrangement",),
    "samples": ("sempa_lightning.evaluation.samples", *_DATA),
    "sampling": ("sempa_lightning.models.generation.Sampling",),
    "scheduler": ("sempa_lightning.training.optimizers", "torch.optim.lr_scheduler"),
    "scoring": _SCORING,
    "sweep": ("optuna.pruners", "optuna.samplers"),
    "trainer": (
        "lightning.pytorch.trainer.trainer.Trainer",
        "lightning.pytorch.plugins",
        "lightning.fabric.plugins",
        "lightning.pytorch.profilers",
        "lightning.pytorch.strategies",
        "sempa_lightning.training.sharded.Sharded",
    ),
    "transformation": ("sempa_lightning.prompts",),
}

# Where the names of those components may be looked up: importing these modules does nothing else.
_IMPORTABLE = (
    "sempa_lightning",
    "torch.optim",
    "lightning.Trainer",
    "lightning.pytorch",
    "lightning.fabric.plugins",
    "optuna.pruners",
    "optuna.samplers",
)
# Hydra's functions that look a dotted name up; `path` is that name.
_LOOKUPS = frozenset(f"hydra.utils.get_{kind}" for kind in ("class", "method", "object", "static_method"))
# More than any config has: aliases in YAML can name a value exponentially often, or put it inside itself.
_MOST_VALUES = 100_000
# A variable of the environment: how the config of a run names a secret.
_VARIABLE = re.compile(r"\$\{oc\.env:(\w+)\}")
_REMOTE_CODE = ".trust_remote_code"
# What these build writes files, and deletes its own: only in the folder of the run.
_WRITERS = ("callbacks", "logger", "trainer")
_WRITTEN = ("_args_", "default_root_dir", "dirpath", "log_dir", "path", "root_dir", "run_dir", "save_dir")


class _Refusal(NamedTuple):
    """A name in a saved config that may not be used.

    Attributes:
        key: Where it stands.
        name: The name: of a class, a function, a file or a variable.
        remedy: What to trust: a module, a file or a variable.
    """

    key: str
    name: str
    remedy: str


def check_saved(config: Mapping[str, Any], source: object, trust: Sequence[str], remote: Collection[str]) -> None:
    """Refuse a saved config that names anything but components that belong to their group, before any is imported.

    Args:
        config: Groups of a saved config, as plain values.
        source: The file it comes from.
        trust: What the user names: modules, whose classes and functions are then allowed in any group, task files of
            lm-evaluation-harness, folders to write to, variables of the environment to read.
        remote: Keys `….trust_remote_code` that the user sets.

    Raises:
        UserError: If it names something else, or a place outside the run folder to write to; if a name does not exist;
            if a value is an interpolation; if it asks to run code of a model.
    """
    for key, value in _values(config):
        if isinstance(value, str) and "${" in value and not _VARIABLE.fullmatch(value):
            raise UserError(f"{key}: {source} holds the interpolation {value!r}: a saved config must be plain values")
        if key.endswith(_REMOTE_CODE) and value and key not in remote:
            raise UserError(
                f"{key}: {source} asks to run code that comes with a model. If you trust it, set {key}=true again."
            )
    for key, name, remedy in _refusals(config, trust):
        raise UserError(
            f"{key}: {source} names {name}, which a saved config may not use as {key.partition('.')[0]}. Nothing of it"
            f" was run. If you trust it, set trust=[{remedy}]."
        )


def consent(config: Any, trust: Sequence[str]) -> list[str]:  # noqa: ANN401 (a config as plain values)
    """Return the overrides by which a process of this command takes up a config that this command has saved.

    The config is the user's own, or has been checked.

    Args:
        config: The config, as plain values.
        trust: What the user trusts; what the config names beside that joins it.
    """
    names = list(trust)
    while new := {refusal.remedy for refusal in _refusals(config, names)} - {*names}:
        names += sorted(new)  # and once more, for a module may import from another
    remote = [key for key, value in _values(config) if key.endswith(_REMOTE_CODE) and value]
    quoted = ",".join(f"'{name}'" for name in names)
    return [*([f"trust=[{quoted}]"] if names else []), *(f"++{key}=true" for key in remote)]


def _values(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each value of a nested config with its dotted key, containers before what they hold.

    Raises:
        UserError: If there are too many.
    """
    waiting = deque((str(key), value) for key, value in config.items())
    seen = 0
    while waiting:
        key, value = waiting.popleft()
        seen += 1
        if seen > _MOST_VALUES:
            raise UserError(f"{key.partition('.')[0]}: the config has over {_MOST_VALUES} values or contains itself")
        yield key, value
        children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        waiting.extend((f"{key}.{name}", child) for name, child in children)


def _refusals(config: Mapping[str, Any], trust: Sequence[str]) -> Iterator[_Refusal]:
    for key, value in _values(config):
        group = key.partition(".")[0]
        if isinstance(value, Mapping) and "_target_" in value:
            place, name = _component(key, value)
            if (remedy := _to_trust(place, name, group, trust)) is not None:
                yield _Refusal(place, name, remedy)
        elif isinstance(value, str) and (variable := _VARIABLE.fullmatch(value)) and variable[1] not in trust:
            yield _Refusal(key, value, variable[1])
        elif isinstance(value, str) and (remedy := _hidden_code(value, group)) and not _within(remedy, trust):
            yield _Refusal(key, value, remedy)
        elif isinstance(value, str) and _writes_outside(key, value, config.get("paths")) and value not in trust:
            yield _Refusal(key, value, value)


def _component(key: str, node: Mapping[str, Any]) -> tuple[str, str]:
    """The dotted name that a node builds, with its key: of a lookup, the name that is looked up."""
    place, name = f"{key}._target_", node["_target_"]
    if name in _LOOKUPS and node.keys() <= {"_target_", "path"}:
        place, name = f"{key}.path", node.get("path")
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{place}: {name!r} is not the dotted name of a class or function")
    return place, name


def _to_trust(key: str, name: str, group: str, trust: Sequence[str]) -> str | None:
    """The module that must be trusted for a name to be used in a group; None if it may be used."""
    module = name.rpartition(".")[0] or name
    if not _within(name, (*_IMPORTABLE, *trust)):
        return module
    try:
        found = _resolved(name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}: cannot find {name}: {error}") from error
    # Where it is defined: modules also hold what they import, such as `os`.
    home = str(getattr(found, "__module__", None) or module)
    own_name = str(getattr(found, "__qualname__", ""))
    plain = (inspect.isclass(found) or inspect.isfunction(found)) and own_name.isidentifier()
    if plain and own_name[0] != "_" and _within(f"{home}.{own_name}", COMPONENTS.get(group, ())):
        return None
    return None if callable(found) and _within(home, trust) else home


def _resolved(name: str) -> object:
    """Find an object by its dotted name, the way Hydra does."""
    first, *parts = name.split(".")
    found: object = importlib.import_module(first)
    for number, part in enumerate(parts, 1):
        try:
            found = getattr(found, part)
        except AttributeError:
            if not isinstance(found, ModuleType):
                raise
            found = importlib.import_module(".".join([first, *parts[:number]]))
    return found


def _hidden_code(value: str, group: str) -> str | None:
    """What a string would run: the package of a `pkg://` path is imported, YAML of the harness names functions."""
    package, _, inner = value.removeprefix("pkg://").partition("/")
    if value.startswith("pkg://") and (package != "sempa_lightning" or ".." in PurePath(inner).parts):
        return package if package != "sempa_lightning" else value
    if group in ("eval", "callbacks") and value.lower().endswith((".yaml", ".yml")) and not value.startswith("pkg://"):
        return value
    return None


def _writes_outside(key: str, value: str, paths: object) -> bool:
    """Whether a callback, logger or trainer would write outside the run folder; what a probe reads may be anywhere."""
    group, *rest = key.split(".")
    if group not in _WRITERS or "suites" in rest:
        return False
    folder = paths.get("run_dir") if isinstance(paths, Mapping) else None
    climbs = ".." in PurePath(value).parts
    inside = isinstance(folder, str) and (value == folder or value.startswith(f"{folder}/"))
    named = value.startswith(("/", "~")) or not {*rest}.isdisjoint(_WRITTEN)
    return climbs or (named and not inside)


def _within(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
