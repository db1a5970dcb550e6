"""How a command ends on a signal: with a line that says how to go on, and a code that a scheduler can read."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

# Exit code of a command that a signal has stopped: the same words start it again, or go on.
STOPPED = os.EX_TEMPFAIL


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
        how = f"{words} goes on" if can_resume() else "there is nothing to go on with yet, start again"
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
