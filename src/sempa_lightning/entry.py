"""What the entry points share: where `conf/` is, how a run is started or resumed, and how an error is told."""

import atexit
import contextlib
import copy
import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sempa_lightning.artifacts import EmbeddingDir, EvaluationDir, RunDir, SweepDir, SynthesisDir, relocated
from sempa_lightning.check import Seed
from sempa_lightning.config_check import check_config, check_type, closest
from sempa_lightning.errors import UserError
from sempa_lightning.escape import for_terminal
from sempa_lightning.masking import MASK, for_file, masked, masked_text, refuse_masks, secret_overrides
from sempa_lightning.stopping import end_at_once
from sempa_lightning.trust import check_saved

# torch has no exception for the death of a loader process, nor for that of another process of a distributed run.
_SIGNS_OF_DEATH = ("DataLoader worker", "Connection closed by peer", "Connection reset by peer")

# What may change where a training is resumed.
RESUMED_FREELY = ("trainer", "logger")

# What a resumed run keeps of its trainer where another is chosen: how long it trains, and when it validates and logs.
_KEPT = (
    *("max_steps", "max_epochs", "max_time", "min_steps", "min_epochs", "limit_train_batches", "log_every_n_steps"),
    *("val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps"),
)

# What a precision of the trainer computes in, by its number.
_HALVES = {"bf16": "bfloat16", "16": "float16"}

# What tells where a run trains, and is left out of some trainers.
_PLACES = ("strategy", "plugins")

# What a model that is looked at consists of, in a config and in that of a run.
SUBJECT_GROUPS = ("model", "readout", "prompt", "scoring")


def conf_dir() -> str:
    """Find the config tree: inside the installed package, else at the root of the checkout.

    Raises:
        UserError: If it is in neither place.
    """
    package = Path(__file__).parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise UserError(f"no conf/ in {package} nor in {package.parents[1]}: reinstall sempa_lightning")


def run_main(main: Callable[[], Any]) -> None:
    """Run a Hydra main; an error that is a defect of ours keeps its traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us instead of Hydra's own report
    try:
        with telling_errors():
            sys.argv += _resuming(sys.argv)
            if secret_overrides(sys.argv):
                logging.setLogRecordFactory(_masked_record)
            main()
        end_at_once()
    except SystemExit as end:
        end_at_once()
        _leave_process_group(end.code)
        raise
    except Exception:
        if _in_process_group():  # an interpreter that is taken down may wait for the others, and they for it
            sys.excepthook(*sys.exc_info())
            _leave_process_group(1)
        raise
    _leave_process_group(0)


def _masked_record(*arguments: Any, **more: Any) -> logging.LogRecord:  # noqa: ANN401 (those of the record)
    """Make a log record without the secrets of its message: Hydra logs the overrides of a sweep."""
    record = logging.LogRecord(*arguments, **more)
    record.msg, record.args = masked_text(record.getMessage()), None
    return record


def _resuming(overrides: Sequence[str]) -> list[str]:
    """Return the overrides by which a resumed run or sweep continues in its own folder.

    Args:
        overrides: The command line; `resume` and `sweep.resume` may have the prefixes `+` and `++`.

    Raises:
        UserError: If there is no such sweep.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    named = [word for word in overrides if re.match(r"\+{0,2}(sweep\.)?resume=", word)]
    parsed = OverridesParser.create().parse_overrides(named)
    folders = {override.key_or_group: override.value() for override in parsed}
    for key, folder in folders.items():
        check_type(key, folder, str | None)
    if sweep := folders.get("sweep.resume"):
        return [f"hydra.sweep.dir={_quoted(SweepDir.existing(str(sweep)).path)}", "hydra.mode=MULTIRUN"]
    return [f"hydra.run.dir={_quoted(folders['resume'])}"] if folders.get("resume") else []


def _quoted(value: object) -> str:
    """A value in the quotes of Hydra's grammar."""
    return "'" + str(value).replace("'", "\\'") + "'"


def _leave_process_group(code: object) -> None:
    """End one of several processes at once, after its exit handlers.

    Threads of the collectives may still be letting go of tensors; an interpreter that is taken down meanwhile aborts.
    """
    if _in_process_group():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _in_process_group() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())


@contextlib.contextmanager
def telling_errors() -> Iterator[None]:
    """Turn an error that the user can put right into one line and exit code 1.

    Hydra would announce an exception that leaves a job, so a job uses it, too.
    """
    try:
        yield
    except Exception as error:
        if not (message := _message(error)):
            if not secret_overrides(sys.argv):
                raise
            # Hydra would print the overrides beside the traceback.
            sys.stderr.write(for_terminal(masked_text(traceback.format_exc())))
            sys.exit(1)
        sys.stderr.write(f"error: {for_terminal(masked_text(message))}\n")
        sys.exit(1)


@contextlib.contextmanager
def ending_wandb_run() -> Iterator[None]:
    """End the W&B run that was begun meanwhile, as failed where an error leaves the block.

    It would last as long as the process otherwise, and the next job of a sweep would log to it.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        wandb = sys.modules.get("wandb")  # only its logger imports it
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=int(failed))


def instantiate(node: Any, **shared: Any) -> Any:  # noqa: ANN401 (whatever the node names)
    """Build the object that a config node names.

    Shared objects are passed by keyword, so that there is one of each; no config object leaks into constructors.
    """
    import hydra.utils
    from omegaconf import OmegaConf

    if OmegaConf.is_config(node):
        refuse_masks(OmegaConf.to_container(node), node._get_full_key(None))
    return hydra.utils.instantiate(node, _convert_="all", **shared)


def subject_fields() -> dict[str, Any]:
    """Top-level config keys that describe a model to be used, each with the type of its value."""
    from sempa_lightning.models.causal_lm import LanguageModel
    from sempa_lightning.models.readout import SentenceReadout
    from sempa_lightning.prompts.template import PromptTemplate
    from sempa_lightning.scoring.layout import Layout

    return {  # others refer to the first of these
        "seed": Seed,
        "run_name": str | int | float,
        "paths": dict[str, str],
        "prompt": PromptTemplate,
        "readout": SentenceReadout,
        "scoring": Layout,
        "model": LanguageModel,
    }


def checked(
    cfg: Any,  # noqa: ANN401 (a DictConfig)
    fields: Mapping[str, Any],
    passed: Mapping[str, Mapping[str, str]] | None = None,
    *,
    saved: bool = False,
) -> Any:  # noqa: ANN401 (as above)
    """Resolve a config and check each key and value of it, before anything is built.

    Args:
        cfg: The config of a command, already without the keys that it drops.
        fields: Its top-level keys and their types; others must be read by one of these, and are dropped.
        passed: Parameters of nodes that the command passes itself (see `check_config`).
        saved: Drop unknown keys without a complaint: the config is that of a run or of an evaluation.

    Raises:
        UserError: See `check_config`; also if a name that the command needs is empty.
    """
    from omegaconf import OmegaConf

    if not saved:
        for key in (key for key in cfg if key not in fields and not is_read(cfg, key)):
            raise UserError(f"{key}: this command has no such key{closest(key, fields)}. Drop it.")
    if missing := sorted(OmegaConf.missing_keys(cfg), key=lambda key: key.count(".")):
        raise UserError(f"{missing[0]}: no value is set. Set {missing[0]}=<value>.")
    OmegaConf.resolve(cfg)
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key in fields])
    check_config(plain(own), fields, passed)
    if cfg.get("run_name") == "":
        raise UserError("run_name: expected a name, found ''. Set run_name=<name>.")
    return own


def plain(cfg: Any) -> dict[str, Any]:  # noqa: ANN401 (a DictConfig)
    """Return a config as plain dicts, lists, texts and numbers."""
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(cfg)
    return dict(content)


def is_read(cfg: Any, key: str) -> bool:  # noqa: ANN401 (a DictConfig)
    """Return whether another top-level key of a config refers to this one: another value of it changes theirs."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    found = []
    for value in (cfg[key], "another value"):
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, key, value, merge=False)
        try:
            OmegaConf.resolve(changed)
        except OmegaConfBaseException:
            return True
        found.append({name: node for name, node in plain(changed).items() if name != key})
    return bool(found[0] != found[1])


def trusted(given: Any) -> list[str]:  # noqa: ANN401 (a value of a config)
    """Return the modules that `trust` names; they are written nowhere.

    Raises:
        UserError: If it is not a list of names.
    """
    from omegaconf import OmegaConf

    names = OmegaConf.to_container(given) if OmegaConf.is_list(given) else given or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"trust: expected a list of modules, found {names!r}. Set trust=[my_module].")
    return names


def resumed_config(
    cfg: Any,  # noqa: ANN401 (a DictConfig)
    overrides: list[str],
    free: Sequence[str] = RESUMED_FREELY,
    trust: Sequence[str] = (),
) -> Any:  # noqa: ANN401 (a DictConfig)
    """Return the saved config of the run that `cfg.resume` names, with this call's choice of what is `free` to change.

    A choice of another trainer, such as `trainer=cpu`, says where the run trains: how long it does (see `_KEPT`), and
    what the choice says nothing about, stay as they were unless a value is given, such as `trainer.max_steps=200`. The
    modules in `trust` and each `….trust_remote_code` are those of this call alone.

    Raises:
        UserError: If it is no run folder, if it names something that is not trusted, or if anything else is overridden.
    """
    from omegaconf import OmegaConf

    check_type("resume", cfg.resume, str)
    resumed = OmegaConf.create(_saved(cfg.resume, trust, remote=_keys(overrides))[1])
    for override in sorted(overrides, key=lambda override: "." in override.partition("=")[0]):  # choices first
        key = override.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0]
        if group in ("resume", "trust"):
            continue
        consents = key.endswith(".trust_remote_code")
        if group not in free and not consents and MASK not in str(OmegaConf.select(resumed, key)):
            raise UserError(
                f"a resumed run keeps its config: drop {masked_text(override)}; only {' and '.join(free)} may change"
            )
        chosen = OmegaConf.select(cfg, key)
        if key == "trainer":
            kept = {name: value for name, value in resumed.trainer.items() if name in _KEPT or name not in chosen}
            chosen = {**chosen, **{name: value for name, value in kept.items() if name not in _PLACES}}
        OmegaConf.update(resumed, key, chosen, merge=False)
    return resumed


def config_text(cfg: Any) -> str:  # noqa: ANN401 (a DictConfig, or a dict of its parts)
    """The resolved config as YAML for a folder, its secrets masked (see `masking.for_file`)."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(cfg if OmegaConf.is_config(cfg) else OmegaConf.create(cfg))
    shown = for_file(values)
    return OmegaConf.to_yaml(cfg) if shown == values else OmegaConf.to_yaml(OmegaConf.create(shown))


def settle_dtype(cfg: Any, device: str | None) -> None:  # noqa: ANN401 (a DictConfig)
    """Replace `model.dtype: auto` by the dtype for the device, so that a folder's config says what was computed in.

    The first process prints what was chosen, and what the device emulates at which measured cost.

    Args:
        cfg: Has `model`, and `trainer` where it trains.
        device: Where the model goes; null is the GPU if there is one, else the CPU.
    """
    import torch

    from sempa_lightning.models.causal_lm import check_device
    from sempa_lightning.models.dtype import AUTO, dtype_named, is_native, slowdown

    check_device(device)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name, precision, lines = cfg.model.get("dtype"), str(cfg.get("trainer", {}).get("precision")), []
    if name == AUTO:
        name = str(dtype_named(AUTO, device)).removeprefix("torch.")
        cfg.model.dtype = name
        why = "" if name == "bfloat16" else f", for this {device} has no units for bfloat16"
        lines.append(f"model.dtype=auto: {name}{why}\n")
    asked = {"model.dtype": name or "float32", "trainer.precision": _HALVES.get(precision.partition("-")[0], "float32")}
    for key, remedy in (("model.dtype", "auto"), ("trainer.precision", "32-true")):
        dtype = dtype_named(asked[key])
        if not is_native(dtype, device):
            lines.append(
                f"{key}: this {device} emulates {asked[key]}, a matrix product takes"
                f" {slowdown(dtype, device):.1f} times as long as in float32. Set {key}={remedy}.\n"
            )
    if not any(int(os.environ.get(rank) or 0) for rank in ("RANK", "SLURM_PROCID", "LOCAL_RANK")):
        sys.stdout.writelines(lines)


def refuse_another_config(
    folder: RunDir | EmbeddingDir | EvaluationDir | SynthesisDir, config: str, free: Sequence[str]
) -> None:
    """Let a folder be gone on with by the config that began it alone.

    Args:
        folder: New, or begun by an earlier call.
        config: The resolved config of this call, as YAML.
        free: Top-level keys that may differ.

    Raises:
        UserError: If the folder holds something else.
    """
    saved, own = masked(folder.read_config()), masked(yaml.safe_load(config))
    changed = sorted(key for key in (saved.keys() | own.keys()) - {*free} if saved.get(key) != own.get(key))
    if saved and changed:
        raise UserError(
            f"{folder.path} holds something else already, with another {', '.join(changed)}: name a new folder with"
            f" hydra.run.dir=…, or go on with resume={folder.path}"
        )


def with_saved(cfg: Any, groups: Sequence[str], overrides: list[str], trust: Sequence[str]) -> Any:  # noqa: ANN401 (a DictConfig)
    """The config with what the run that `cfg.run` names has saved for some groups.

    It is taken whole, but for the values that the command line gives; a choice of another option replaces it.

    Raises:
        UserError: If it is no run folder, or if what is taken names something that is not trusted.
    """
    cfg.run, saved = _saved(cfg.run, trust, groups, _keys(overrides))
    for group in saved.keys() & set(groups):
        cfg[group] = _overridden(cfg, group, saved[group], overrides)
    return cfg


def subjects_of(
    cfg: Any,  # noqa: ANN401 (a DictConfig)
    device: str | None,
    keep_layers: Sequence[int] = (),
    checkpoint: str | None = None,
    trust: Sequence[str] = (),
) -> Any:  # noqa: ANN401 (`Subjects`, which is slow to import)
    """The run that `cfg.run` names, or else the model, to be looked at; it is loaded when it is needed.

    Args:
        cfg: Has `run`, `paths` and `SUBJECT_GROUPS`.
        device: Where models go; null is the GPU if there is one, else the CPU.
        keep_layers: Layers whose embeddings are kept beside those that the readout asks for.
        checkpoint: A checkpoint of the run instead of what it saved at its end.
        trust: Modules that the saved config of the run may name (see `check_saved`).
    """
    from functools import partial

    from omegaconf import OmegaConf

    from sempa_lightning.assets import local_path
    from sempa_lightning.evaluation.subjects import BareModel, EmbeddingCaches, TrainedRun, View
    from sempa_lightning.models.causal_lm import check_device

    check_device(device)
    caches = EmbeddingCaches(local_path(cfg.paths.cache_dir) / "embeddings", keep_layers)
    view = View(instantiate(cfg.readout), instantiate(cfg.prompt), instantiate(cfg.scoring), device, caches)
    load = partial(instantiate, cfg.model)
    if cfg.run is None:
        return BareModel(load, view)
    run, trained = RunDir(cfg.run), OmegaConf.create(_saved(cfg.run, trust, ["adapter"])[1])
    path = None if checkpoint is None else run.checkpoints / checkpoint
    return TrainedRun(
        run,
        load,
        instantiate(trained.adapter),
        view,
        dtype=cfg.model.get("dtype", "float32"),
        trust_remote_code=cfg.model.get("trust_remote_code", False),
        checkpoint=path,
    )


def _keys(overrides: Sequence[str]) -> list[str]:
    """The keys that the command line sets."""
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def _saved(
    run: str, trust: Sequence[str], groups: Sequence[str] | None = None, remote: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Where a run is, and its config there: these groups of it, all if null, with nothing that is not trusted."""
    check_type("run", run, str)
    folder = RunDir.existing(run)
    place, config = (
        str(folder.path.resolve()),
        folder.read_groups([group for group in groups or ("model",) if group in ("model", "adapter")]),
    )
    paths = config.get("paths")
    old = paths.get("run_dir") if isinstance(paths, dict) else None
    if groups is not None:
        config = {group: config[group] for group in groups if group in config}
    check_saved(config, folder.config, trust, remote)
    return place, relocated(config, old if isinstance(old, str) and old else place, place)


def _overridden(cfg: Any, group: str, saved: Any, overrides: list[str]) -> Any:  # noqa: ANN401 (nodes of configs)
    """The node that a run has for a group, but for the command line's choice of another or of some of its values."""
    from omegaconf import OmegaConf

    node = OmegaConf.create({group: saved})
    for key in _keys(overrides):
        if key.partition(".")[0] == group:
            OmegaConf.update(node, key, OmegaConf.select(cfg, key), merge=False, force_add=True)
    return node[group]


def _message(error: BaseException) -> str | None:
    """Describe an error that the user can put right in one line; None for any other."""
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, InstantiationException) and isinstance(error.__cause__, (UserError, OSError)):
        error = error.__cause__
    told_by_torch = (InstantiationException, RuntimeError, ValueError)
    if isinstance(error, told_by_torch) and (message := _group_message(str(error))) is not None:
        return message
    if (message := _config_message(error)) is not None:
        return message
    if isinstance(error, (UserError, HydraException, OmegaConfBaseException)):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return _system_message(error)
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        return f"the encoding of this locale is {sys.getfilesystemencoding()} ({error}): set PYTHONUTF8=1"
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # last, for it is slow to import

    return " ".join(str(error).split()) if isinstance(error, MisconfigurationException) else None


def _config_message(error: BaseException) -> str | None:
    """Describe what Hydra and OmegaConf find wrong with a key, the key first."""
    from hydra.errors import InstantiationException
    from omegaconf.errors import InterpolationKeyError

    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        key = re.search(r"full_key: (\S+)", str(error)) or re.search(r"in call to target '(.+?)'", str(error))
        reason = " ".join(str(error.__cause__).split()) or type(error.__cause__).__name__
        return f"{key[1]}: {reason}" if key else reason
    if isinstance(error, InterpolationKeyError) and (key := re.search(r"key '((\w+)\..+?)'", str(error))):
        name, group = key.groups()
        if group != "paths" and Path(conf_dir(), group).is_dir():
            return (
                f"another part of the config asks for {name}, but this {group} has no such key: choose another {group}"
            )
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be a string"):
        words = [word for word in sys.argv[1:] if re.fullmatch(r"[+~]*[\w/@]*=(null|true|false|[\d.]*)", word)]
        return f"{', '.join(words) or 'overrides'}: expected the name of an option, as --help lists them"
    return None


def _group_message(error: str) -> str | None:
    """One line on what torch and Lightning say of devices and of other processes: loaders, ranks, who has the port."""
    if any(sign in error for sign in _SIGNS_OF_DEATH):
        return (
            f"a process of this run died ({error.splitlines()[0]}): see what it printed, and whether memory was short;"
            " resume=<run folder> goes on from the last checkpoint"
        )
    if "EADDRINUSE" in error:
        return f"port {os.environ.get('MASTER_PORT')} is in use: unset MASTER_PORT, or set it to a free port"
    if "No supported gpu backend" in error:
        return "no GPU is here that torch can use: choose trainer=cpu, or set trainer.accelerator=cpu"
    if "SLURM_NODEID" in error:
        return "trainer=slurm wants its processes started by srun: see docs/scaling.md, or choose trainer=ddp"
    if error.startswith("You set `"):  # Lightning has counted the processes that torchrun or srun have started
        return f"{error} They are trainer.devices and trainer.num_nodes here: set them to what was started"
    return None


def _system_message(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = error.filename or "a file of a library"
        return f"cannot write {place}: {error.strerror}; make room. What was written before is whole"
    return None if error.filename is None else f"{error.strerror}: {error.filename}"
