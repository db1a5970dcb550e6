"""Hydra's launcher of runs: each job of a sweep is a process of its own, started with the command of a single run."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from sempa_lightning.artifacts import SweepDir
from sempa_lightning.check import check_count
from sempa_lightning.escape import for_terminal
from sempa_lightning.masking import masked_text
from sempa_lightning.stopping import STOPPED
from sempa_lightning.sweeps.processes import Judge, Processes
from sempa_lightning.sweeps.trial import ENDED, Trial, recorded

# What concerns the sweep alone.
_OF_THE_SWEEP = ("sweep=", "sweep.", "hydra.mode=", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher")
# What a saved config cannot consent to: runs get it anew each time they are started.
_CONSENT = re.compile(r"\+{0,2}(trust|[\w.]+\.trust_remote_code)=")


class ProcessLauncher(Launcher):
    """Runs the jobs of a sweep as `python -m <module> <words of the job>`, each in a numbered folder of the sweep.

    A job that fails is recorded and told; the others go on. With `sweep.resume=<folder>` jobs that were done are not
    run again, and one that has left a checkpoint goes on from there.

    Args:
        module: What Python runs.
        jobs: How many at a time.
        devices: CUDA devices of each that runs at a time; where any are given, there are as many jobs at a time.
        prefix: Words before Python's, such as those of srun.

    Raises:
        UserError: If `jobs` is not a number of jobs.
    """

    def __init__(self, module: str, jobs: int, devices: Sequence[int | str], prefix: Sequence[str]) -> None:
        check_count("hydra.launcher.jobs", jobs)
        self._command = [*prefix, sys.executable, "-m", module]
        self._devices: Sequence[str | None] = [str(device) for device in devices] or [None] * jobs

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:  # noqa: ANN401, ARG002 (Hydra's signature)
        """Take what all jobs share from the config of the sweep."""
        self.sweep = SweepDir(Path(config.hydra.sweep.dir).absolute())
        asked = [word for word in config.hydra.overrides.task if not word.startswith("sweep.")]
        self._asked = [word for word in asked if not _CONSENT.match(word)]
        self._resume = OmegaConf.select(config, "sweep.resume") is not None
        added = [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
        shared = [word for word in config.hydra.overrides.hydra if not word.startswith(_OF_THE_SWEEP)]
        consent = [word for word in asked if _CONSENT.match(word)]
        self._command += [*(f"--config-dir={path}" for path in added), *shared, *consent]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run these jobs, told apart by the words that not all of them have.

        Returns:
            For each the best value of its `monitor`, None where there is none.
        """
        if initial_job_idx == 0:
            self.begin()
        shared = set.intersection(*map(set, job_overrides))
        trials = []
        for number, words in enumerate(job_overrides, initial_job_idx):
            chosen = (word.partition("=") for word in words if word not in shared)
            trials.append(self.trial(number, words, {key: value for key, _, value in chosen}))
            if not trials[-1].run.trial.is_file():
                trials[-1].became("queued")
        ended = sorted(self.run(iter(trials)), key=lambda trial: trial.number)
        scores = [trial.run.read_summary().get("train/best") if trial.state == "done" else None for trial in ended]
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=score) for score in scores]

    def begin(self) -> None:
        """Write down what the sweep is asked, or make sure that a resumed one is asked the same."""
        self.sweep.begin(self._asked, resume=self._resume)
        _say(f"sweep folder: {self.sweep.path}")

    def trial(self, number: int, words: Sequence[str], chosen: Mapping[str, str]) -> Trial:
        """A run of this sweep."""
        own = tuple(word for word in words if not word.startswith(_OF_THE_SWEEP) and not _CONSENT.match(word))
        return Trial(self.sweep.run(number), own, chosen)

    def run(self, trials: Iterator[Trial], hopeless: Judge = lambda _: None) -> Iterator[Trial]:
        """Run trials, and say which begin and end (see `Processes.run`)."""
        try:
            for trial in Processes(self._command, self._devices).run(map(_announced, trials), hopeless):
                _say(f"{trial} {trial.state}{trial.why and f': {trial.why}'}")
                yield trial
        except (KeyboardInterrupt, SystemExit):
            _say(f"stopped: the same command with sweep.resume={self.sweep.path} goes on")
            raise SystemExit(STOPPED) from None


def _announced(trial: Trial) -> Trial:
    if not (trial.run.trial.is_file() and recorded(trial.run).state in ENDED):
        _say(f"{trial} begins; what it prints is in {trial.run.output}")
    return trial


def _say(line: str) -> None:
    sys.stdout.write(f"{for_terminal(masked_text(line))}\n")
    sys.stdout.flush()
