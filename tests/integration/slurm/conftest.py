"""A SLURM cluster of two nodes that are this machine, for as long as its tests run.

Its daemons belong to this user, need neither systemd nor a configured machine, and keep everything in one folder.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo")
PATIENCE = 600  # seconds
# Nodes are named by addresses of this machine: the first is where the processes of a run meet. Each has more CPUs than
# the machine may have, so that jobs run side by side, and GPUs that are none.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=60
MinJobAge=86400
GresTypes=gpu
NodeName=127.0.0.1 Port={ports[1]} CPUs=4 Gres=gpu:1
NodeName=127.0.0.2 Port={ports[2]} CPUs=4 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
"""


class Cluster:
    """What runs on the cluster.

    Args:
        folder: Where it keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hastened: set[tuple[int, str]] = set()

    def ask(self, *words: object) -> str:
        """What a program of SLURM answers."""
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, script: str) -> int:
        """Queue a batch script; its job's number. What it prints is in `printed`."""
        path = self.folder / "job.sh"
        path.write_text(script)
        return int(self.ask("sbatch", "--parsable", f"--output={self.folder}/job-%A.txt", path))

    def printed(self, job: int) -> str:
        """All that a job has printed."""
        path = self.folder / f"job-{job}.txt"
        return path.read_text() if path.is_file() else ""

    def about(self, job: int) -> dict[str, str]:
        """What `scontrol show job` tells."""
        words = self.ask("scontrol", "show", "--oneliner", "job", job).split()
        return dict(word.partition("=")[::2] for word in words)

    def states(self) -> list[str]:
        """The states of all jobs that the cluster remembers."""
        return re.findall(r"JobState=(\w+)", self.ask("scontrol", "show", "--oneliner", "job"))

    def wait(self, job: int) -> str:
        """Wait for the end of a job; the state that it ended in."""
        self.wait_for(job, lambda: self.has_ended(job))
        return self.about(job)["JobState"]

    def has_ended(self, job: int) -> bool:
        """Whether a job has ended for good.

        One that was queued again would wait two minutes, in which its nodes are cleaned; five seconds are enough here.
        """
        about = self.about(job)
        restart = job, about["Restarts"]
        if about["Reason"] == "BeginTime" and restart not in self._hastened:
            self._hastened.add(restart)
            self.ask("scontrol", "update", f"JobId={job}", "StartTime=now+5")
        return about["JobState"] not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")

    def wait_for(self, job: int, happened: Callable[[], bool]) -> None:
        """Wait for something that a job does.

        Raises:
            TimeoutError: If it takes too long.
        """
        end = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > end:
                raise TimeoutError(f"job {job} is {self.about(job)['JobState']}: {self.printed(job)}")
            time.sleep(0.2)

    def await_idle(self, seconds: float = PATIENCE) -> None:
        """Wait until the nodes answer and no job is left.

        Raises:
            TimeoutError: If it takes too long.
        """
        end = time.monotonic() + seconds
        while True:
            done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
            if done.stdout.strip() == "idle" and not self.ask("squeue", "--noheader"):
                return
            if time.monotonic() > end:
                said = "\n".join(path.read_text() for path in sorted(self.folder.glob("*.txt")))
                raise TimeoutError(f"the nodes are {done.stdout.strip() or done.stderr.strip()}:\n{said}")
            time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The cluster, idle; skips where SLURM or munge are missing."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
        # Not pytest's folder: the name of a socket must be short.
        cluster = Cluster(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-"))))
        patch.setenv("SLURM_CONF", str(cluster.folder / "slurm.conf"))
        for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF"]:
            patch.delenv(name)
        _configure(cluster.folder)
        for name, command in _daemons(cluster.folder).items():
            stack.enter_context(_running(command, cluster.folder / f"{name}.txt"))
        cluster.await_idle(60)
        yield cluster
        cluster.ask("scancel", "--full", "--user", os.getuid())
        cluster.await_idle()


def _configure(folder: Path) -> None:
    """Write all that the daemons read."""
    folder.chmod(0o755)  # munge wants its socket to be found by everyone
    for name in "state", "spool-127.0.0.1", "spool-127.0.0.2":
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    host = socket.gethostname().partition(".")[0]
    text = CONFIG.format(host=host, user=os.getuid(), folder=folder, ports=_free_ports())
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")


def _free_ports() -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(3)]
        return [one.getsockname()[1] for one in sockets]


def _daemons(folder: Path) -> dict[str, list[str]]:
    """The command of each daemon, which stays in the foreground."""
    munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    files = [f"--{option}={folder}/munge.{name}" for option, name in munge.items()]
    nodes = {f"slurmd-{name}": ["slurmd", "-D", "-N", name] for name in ("127.0.0.1", "127.0.0.2")}
    return {"munged": ["munged", "--foreground", *files], "slurmctld": ["slurmctld", "-D"], **nodes}


@contextmanager
def _running(command: list[str], said: Path) -> Iterator[None]:
    """Run a daemon; what it says is in a file."""
    with (
        said.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True) as process,
    ):
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
