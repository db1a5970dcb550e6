"""End a command on a signal: with a line that says how to resume, and a code that a scheduler can read."""

import atexit
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

# Exit code of a command that a signal has stopped: the same words start it again, or go on.
STOPPED = os.EX_TEMPFAIL
_NOTHING_YET = "nothing to resume yet, run the same command again"
_received: list[int] = []


def end_in_one_line() -> None:
    """Prepare the process of a command: a signal or a closed stdout ends it with one line, at any moment from now on.

    This covers the time in which libraries load and the config is composed; `stopping_on_signals` takes over where a
    command works on a folder. A process that another one started dies of the signal, so that its parent sees it.
    Characters that the terminal's encoding lacks are printed as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    atexit.register(_flush)
    sys.excepthook = _last_line
    if int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _interrupt)


def end_at_once() -> None:
    """Let a signal end the process without a word from now on: all work is done, and only the interpreter is left."""
    if sys.excepthook is _last_line:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt


def _last_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an exception that nothing has caught: in one line if a signal, or a library that met it, has raised it."""
    if _received or issubclass(kind, KeyboardInterrupt):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        sys.stdout.write(f"stopped: {_NOTHING_YET}\n")
        raise SystemExit(STOPPED)
    if issubclass(kind, BrokenPipeError):
        sys.stderr.write("error: broken pipe: stdout was closed\n")
        raise SystemExit(1)
    sys.__excepthook__(kind, error, trace)


def _flush() -> None:
    """Print what is left; a stdout that its reader has closed, such as `head`, takes nothing more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def stopping_on_signals(words: str, can_resume: Callable[[], bool]) -> Iterator[None]:
    """Let a signal end what is under way with a line that says how to go on, and with exit code `STOPPED`.

    At once, but for a step of the training that is under way (see `StopBetweenSteps`). Of several processes only the
    first tells; the others exit with 0, for Lightning would kill the first one otherwise.

    Args:
        words: What goes on with it, such as `resume=<folder>`.
        can_resume: Whether there is by now what can be gone on with.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from sempa_lightning.training.callbacks.stop_between_steps import SIGNALS
    from sempa_lightning.training.setup import is_first_process

    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        causes = (end, end.__context__)  # Lightning makes a `SystemExit` of an interruption
        if not any(isinstance(cause, (KeyboardInterrupt, SIGTERMException)) for cause in causes):
            raise
        if not is_first_process():
            sys.exit(0)
        how = f"{words} goes on" if can_resume() else _NOTHING_YET
        sys.stdout.write(f"stopped: {how}\n")
        sys.exit(STOPPED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first_stopping_on_signals(words: str, can_resume: Callable[[], bool]) -> contextlib.AbstractContextManager[None]:
    """As `stopping_on_signals`, where processes do not wait for each other: the others die of theirs.

    So whoever has started them sees it, and starts them again.
    """
    from sempa_lightning.evaluation.workers import own_rank

    return _dying_of_signals() if own_rank() else stopping_on_signals(words, can_resume)


@contextlib.contextmanager
def _dying_of_signals() -> Iterator[None]:
    """Give up what is held before dying of a signal: who is told to end has not died at its work."""
    from sempa_lightning.training.callbacks.stop_between_steps import SIGNALS

    received: list[int] = []

    def unwind(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, unwind) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.signal(received[-1], signal.SIG_DFL)
            signal.raise_signal(received[-1])
