"""Trials as processes, some at a time: each has a process group of its own and knows nothing of the others."""

import contextlib
import fcntl
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

from sempa_lightning.errors import UserError
from sempa_lightning.masking import masked, secret_overrides
from sempa_lightning.sweeps.trial import ENDED, Trial, recorded

_PAUSE = 0.2
# Seconds in which a process that is asked to end may write a checkpoint.
_GRACE = 30.0
# Variables that make a process part of a group, or of a W&B run.
_OF_A_GROUP = re.compile(
    r"MASTER_(ADDR|PORT)|((LOCAL|GROUP|ROLE|NODE)_)?RANK|((LOCAL|GROUP|ROLE)_)?WORLD_SIZE|ROLE_NAME|TORCHELASTIC_\w+"
    r"|PL_GLOBAL_SEED|SLURM_(PROCID|LOCALID|NODEID|NTASKS\w*)|WANDB_(RUN_ID|NAME|RESUME|SERVICE)"
)
_ERROR = re.compile(r"^(?:error|[\w.]+(?:Error|Exception)): .+", re.MULTILINE)

Judge = Callable[[Trial], str | None]


class Processes:
    """Runs trials.

    Args:
        command: What all trials run; the words of each are appended.
        devices: Of each trial that runs at a time the CUDA devices that it sees, None for all.
    """

    def __init__(self, command: Sequence[str], devices: Sequence[str | None]) -> None:
        self._command = command
        self._devices = devices

    def run(self, trials: Iterator[Trial], hopeless: Judge) -> Iterator[Trial]:
        """Start each trial as soon as there is room, tell what became of each as soon as it ends.

        A trial that was done before is told at once. One that has left a checkpoint goes on from there. One that a
        process of an earlier sweep still works on is waited for. If this process is interrupted or terminated, so are
        the trials; they may be taken up again.

        Args:
            trials: Taken when there is room, so that the next may depend on those that have ended.
            hopeless: Asked again and again about each trial that runs: why it should be ended, None to let it go on.

        Yields:
            Trials that have ended, in the order of their ends.

        Raises:
            UserError: If a trial's folder holds another one.
        """
        running: dict[int, _Attempt] = {}
        with _terminable():
            try:
                while True:
                    self._fill(running, trials)
                    if not running:
                        return
                    for place, attempt in list(running.items()):
                        if (ended := attempt.look(hopeless)) is not None:
                            del running[place]
                            yield ended
                    time.sleep(_PAUSE)
            finally:
                for attempt in running.values():
                    attempt.ask_to_end()
                for attempt in running.values():
                    attempt.wait()

    def _fill(self, running: dict[int, "_Attempt"], trials: Iterator[Trial]) -> None:
        """Take trials for all places that are free."""
        for place, device in enumerate(self._devices):
            if place not in running and (trial := next(trials, None)) is not None:
                running[place] = _Attempt(trial, self._command, self._environment(device))

    def _environment(self, device: str | None) -> dict[str, str]:
        """This process's variables, without those that only one process may have."""
        variables = {name: value for name, value in os.environ.items() if not _OF_A_GROUP.fullmatch(name)}
        if device is not None:
            variables["CUDA_VISIBLE_DEVICES"] = device
        if (number := len(self._devices)) > 1:
            variables.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // number)))
        return variables


class _Attempt:
    """The process of a trial, from before its start to its end.

    Whoever may print to the trial's file of output holds the lock on it: the system gives it back when the last of
    the processes has gone, however they went.
    """

    def __init__(self, trial: Trial, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._trial = trial
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._output_begins = 0
        self._pruned: str | None = None
        self._deadline = math.inf

    def look(self, hopeless: Judge) -> Trial | None:
        """Bring the trial forward as far as it can be now; the trial, once it has ended."""
        if self._process is None:
            return self._begin()
        if (code := self._process.poll()) is not None:
            return self._ended(code)
        if self._pruned is None and (why := hopeless(self._trial)):
            self._pruned = why
            self.ask_to_end()
        if time.monotonic() > self._deadline:
            self._kill_group()
        return None

    def ask_to_end(self) -> None:
        """Ask the first process of the group, which ends the others."""
        if self._process is not None:
            self._process.terminate()
            self._deadline = time.monotonic() + _GRACE

    def wait(self) -> None:
        """Wait for the end that was asked for."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
            self._kill_group()
            self._process.wait()

    def _begin(self) -> Trial | None:
        run = self._trial.run
        run.path.mkdir(parents=True, exist_ok=True)
        with run.output.open("ab") as output:
            try:
                fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            if (ended := self._before()) is not None:
                return ended
            command = [*self._command, *self._words()]
            self._trial.became("running")
            self._output_begins = output.tell()
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return None

    def _before(self) -> Trial | None:
        """The trial, if it has ended before."""
        run = self._trial.run
        if not run.trial.is_file():
            return None
        earlier = recorded(run)
        if earlier.words != tuple(masked(self._trial.words)):
            raise UserError(f"{run.path} holds another trial, {' '.join(earlier.words)}: name a new folder")
        if earlier.state in ENDED:
            return earlier
        # The sweep died before it could record what its trial had done.
        return earlier.became("done") if earlier.state == "running" and run.summary.is_file() else None

    def _words(self) -> list[str]:
        """Go on from a checkpoint; without one, begin in an empty folder."""
        run = self._trial.run
        if run.resumable_checkpoints:
            return [f"resume={run.path}", *secret_overrides(self._trial.words)]
        for path in run.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != run.output:
                path.unlink()
        return [*self._trial.words, f"hydra.run.dir='{run.path}'", "hydra.mode=RUN"]

    def _ended(self, code: int) -> Trial:
        if code:
            self._kill_group()  # others of it may hang where the first has died
        if code == 0 and self._trial.run.summary.is_file():
            return self._trial.became("done")
        if self._pruned is not None:
            return self._trial.became("pruned", self._pruned)
        return self._trial.became("failed", self._last_words(code))

    def _last_words(self, code: int) -> str:
        """The first error that was printed: what went wrong, before other processes lost their peer."""
        with self._trial.run.output.open("rb") as output:
            output.seek(self._output_begins)
            printed = output.read().decode(errors="replace")
        if (error := _ERROR.search(printed)) is not None:
            return error[0].removeprefix("error: ")
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code} and no summary"

    def _kill_group(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM leave the block as an exception does."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
