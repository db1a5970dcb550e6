"""More processes on this machine for one piece of work."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich.console import Console

from sempa_lightning.errors import UserError

_PAUSE = 0.2
# Seconds that a process that is told to end may take.
_PATIENCE = 10.0


def own_rank() -> int:
    """Which process of several this one is, as torchrun or SLURM say it; 0 is the one that prints and summarises."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


@runtime_checkable
class Work(Protocol):
    """Work in a folder that shows what is done."""

    @property
    def rest(self) -> Sequence[object]:
        """What is not done."""

    def tell(self) -> None:
        """Say what was done since the last call."""


class Workers:
    """Processes that share a piece of work; one that a signal kills is started again.

    Args:
        commands: What each of them runs.
        log: The file that a process prints to, by name.
        restarts: How often one is started again, all together.
    """

    def __init__(self, commands: Sequence[Sequence[str]], log: Callable[[str], Path], restarts: int) -> None:
        self._commands = commands
        self._logs = [log(f"process-{rank}") for rank in range(1, len(commands) + 1)]
        self._restarts = restarts

    def run(self, work: Work, console: Console) -> None:
        """Start them and wait until all is done, telling what ends.

        Raises:
            UserError: If they end before all is done.
        """
        processes = {rank: self._start(rank) for rank in range(1, len(self._commands) + 1)}
        restarts = self._restarts
        try:
            while processes:
                time.sleep(_PAUSE)
                work.tell()
                for rank, process in list(processes.items()):
                    if (code := process.poll()) is None:
                        continue
                    del processes[rank]
                    if code >= 0:
                        continue
                    console.print(f"process {rank} died of signal {-code}", style="yellow")
                    if work.rest and restarts:  # another may have done the rest by now
                        restarts -= 1
                        processes[rank] = self._start(rank)
        finally:
            _end(processes.values())
        work.tell()
        if work.rest:
            raise UserError(self._last_words())

    def _start(self, rank: int) -> subprocess.Popen[bytes]:
        threads = str(max(1, (os.cpu_count() or 1) // len(self._commands)))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank - 1)}
        log = self._logs[rank - 1]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            command = self._commands[rank - 1]
            return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

    def _last_words(self) -> str:
        """Why they ended, as one of them told it."""
        for log in self._logs:
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            if told := [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]:
                return told[-1]
        return f"the processes ended before all was done: see {self._logs[0].parent}"


def _end(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Let processes end what they hold; those that do not within some seconds are killed."""
    until = time.monotonic() + _PATIENCE
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def worker_command(name: str, folder: Path, overrides: Sequence[str] = ()) -> list[str]:
    """The call of a command in a process that works on a folder which another one has prepared."""
    return [sys.executable, "-m", f"sempa_lightning.{name}", f"resume={folder}", *overrides]
