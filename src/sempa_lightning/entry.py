"""What the entry points share: where `conf/` is, how a run is started or resumed, and how an error is told."""

import atexit
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sempa_lightning.artifacts import RunDir, SweepDir, relocated
from sempa_lightning.errors import UserError

# torch has no exception for the death of a loader process, nor for that of another process of a distributed run.
_SIGNS_OF_DEATH = ("DataLoader worker", "Connection closed by peer", "Connection reset by peer")


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
            main()
    except SystemExit as end:
        _leave_process_group(end.code)
        raise
    _leave_process_group(0)


def _resuming(words: Sequence[str]) -> list[str]:
    """Words by which a resumed run or sweep goes on in its own folder.

    Raises:
        UserError: If there is no such sweep.
    """
    named = dict(word.split("=", 1) for word in words if word.startswith(("resume=", "sweep.resume=")))
    run, sweep = named.get("resume"), named.get("sweep.resume")
    if sweep:
        return [f"hydra.sweep.dir='{SweepDir.existing(sweep).path}'", "hydra.mode=MULTIRUN"]
    return [f"hydra.run.dir='{run}'"] if run else []


def _leave_process_group(code: object) -> None:
    """End one of several processes at once, after its exit handlers.

    Threads of the collectives may still be letting go of tensors; an interpreter that is taken down meanwhile aborts.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


@contextlib.contextmanager
def telling_errors() -> Iterator[None]:
    """Turn an error that the user can put right into one line and exit code 1.

    Hydra would announce an exception that leaves a job, so a job uses it, too.
    """
    try:
        yield
    except Exception as error:
        if not (message := _message(error)):
            raise
        sys.stderr.write(f"error: {message}\n")
        sys.exit(1)


def instantiate(node: Any, **shared: Any) -> Any:  # noqa: ANN401 (whatever the node names)
    """Build the object that a config node names.

    Shared objects are passed by keyword, so that there is one of each; no config object leaks into constructors.
    """
    import hydra.utils

    return hydra.utils.instantiate(node, _convert_="all", **shared)


def resumed_config(cfg: Any, overrides: list[str], free: Sequence[str] = ("trainer", "logger")) -> Any:  # noqa: ANN401 (a DictConfig)
    """The saved config of the run that `cfg.resume` names, with this call's choice of what is `free` to change.

    Raises:
        UserError: If it is no run folder, or if anything else is overridden.
    """
    from omegaconf import OmegaConf

    run = RunDir.existing(cfg.resume)
    saved = run.read_config()
    resumed = OmegaConf.create(relocated(saved, saved["paths"]["run_dir"], str(run.path.resolve())))
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0]
        if group == "resume":
            continue
        if group not in free:
            raise UserError(f"a resumed run keeps its config: drop {override}; only {' and '.join(free)} may change")
        OmegaConf.update(resumed, key, OmegaConf.select(cfg, key), merge=False)
    return resumed


def _message(error: BaseException) -> str | None:
    """One line on an error that the user can put right, None for any other."""
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, InstantiationException) and isinstance(error.__cause__, (UserError, OSError)):
        error = error.__cause__
    if isinstance(error, (UserError, HydraException, OmegaConfBaseException)):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return _system_message(error)
    if isinstance(error, RuntimeError) and (message := _group_message(str(error))) is not None:
        return message
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # last, for it is slow to import

    return " ".join(str(error).split()) if isinstance(error, MisconfigurationException) else None


def _group_message(error: str) -> str | None:
    """One line on what torch says of other processes: of loaders, of a distributed run, of whoever has its port."""
    if any(sign in error for sign in _SIGNS_OF_DEATH):
        return (
            f"a process of this run died ({error.splitlines()[0]}): see what it printed, and whether memory was short;"
            " resume=<run folder> goes on from the last checkpoint"
        )
    if "EADDRINUSE" in error:
        return f"port {os.environ.get('MASTER_PORT')} is in use: unset MASTER_PORT, or set it to a free port"
    return None


def _system_message(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = error.filename or "the data cache"
        return f"cannot write {place}: {error.strerror}; make room. What was written before is whole"
    return None if error.filename is None else f"{error.strerror}: {error.filename}"
