"""More processes on this machine for one evaluation."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sempa_lightning.artifacts import EvaluationDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.queue import Queue

_PAUSE = 0.2


def own_rank() -> int:
    """Which process of several this one is, as torchrun or SLURM say it; 0 is the one that prints and summarises."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


class Workers:
    """Processes that work on a queue; one that a signal kills is started again.

    Args:
        command: What each of them runs.
        number: How many.
        folder: The evaluation; what a process prints goes to its `log/`.
    """

    def __init__(self, command: Sequence[str], number: int, folder: EvaluationDir) -> None:
        self._command = command
        self._number = number
        self._folder = folder

    def run(self, queue: Queue, console: Console) -> None:
        """Start them and wait until all is measured, telling what ends.

        Raises:
            UserError: If they end before all is measured.
        """
        processes = {rank: self._start(rank) for rank in range(1, self._number + 1)}
        # Two deaths at a task make it a failure: there cannot be more than this.
        restarts, told = 2 * len(queue.places), set(queue.places) - set(queue.rest)
        try:
            while processes:
                time.sleep(_PAUSE)
                self._tell(queue, told, console)
                for rank, process in list(processes.items()):
                    if (code := process.poll()) is None:
                        continue
                    del processes[rank]
                    if code >= 0:
                        continue
                    console.print(f"[yellow]process {rank} died of signal {-code}[/yellow]")
                    if queue.rest and restarts:  # another may have done the rest by now
                        restarts -= 1
                        processes[rank] = self._start(rank)
        finally:
            for process in processes.values():
                process.terminate()
        self._tell(queue, told, console)
        if queue.rest:
            raise UserError(self._last_words())

    def _tell(self, queue: Queue, told: set[str], console: Console) -> None:
        for place in queue.places:
            if place not in told and (result := queue.folder.read_result(place)):
                told.add(place)
                what = f"[red]failed: {result['failed']}[/red]" if "failed" in result else "done"
                console.print(f"{place} {what} ({result['seconds']:.1f} s)", soft_wrap=True)

    def _start(self, rank: int) -> subprocess.Popen[bytes]:
        threads = str(max(1, (os.cpu_count() or 1) // self._number))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank - 1)}
        log = self._log(rank)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(self._command, env=environment, stdout=output, stderr=subprocess.STDOUT)

    def _log(self, rank: int) -> Path:
        return self._folder.log(f"process-{rank}")

    def _last_words(self) -> str:
        """Why they ended, as one of them told it."""
        for rank in range(1, self._number + 1):
            lines = self._log(rank).read_text(errors="replace").splitlines() if self._log(rank).is_file() else []
            if told := [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]:
                return told[-1]
        return f"the processes ended before all was measured: see {self._log(1).parent}"


def worker_command(folder: EvaluationDir) -> list[str]:
    """The command of a process that works on a folder that another one has prepared."""
    return [sys.executable, "-m", "sempa_lightning.evaluate", f"resume={folder.path}"]
