"""Which share of a corpus is this process's, where several work on it, on one machine or on many."""

import os
import re
from typing import NamedTuple

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.workers import own_rank


class Shard(NamedTuple):
    """One of several equal shares.

    Attributes:
        place: Which one, from 0 on.
        shares: How many there are.
    """

    place: int
    shares: int

    def split(self, place: int, shares: int) -> "Shard":
        """One of the shares that this one is cut into."""
        return Shard(self.place * shares + place, self.shares * shares)

    def __str__(self) -> str:
        """As the command line takes it."""
        return f"{self.place}/{self.shares}"


def own_shard(named: str | None) -> Shard:
    """The share of this process.

    Args:
        named: `i/n`, or null to follow the environment: the tasks of a SLURM array share the corpus, and within each of
            them the processes that torchrun or srun have started.

    Raises:
        UserError: If it is no share, or the tasks of the array are not numbered without gaps.
    """
    if named is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", named)
        if match is None or int(match[1]) >= int(match[2]):
            raise UserError(f"shard={named} is no share: give i/n with i from 0 to n - 1, such as shard=0/4")
        return Shard(int(match[1]), int(match[2]))
    name, tasks = _number("SLURM_ARRAY_TASK_ID", 0), _number("SLURM_ARRAY_TASK_COUNT", 1)
    task = Shard(name - _number("SLURM_ARRAY_TASK_MIN", 0), tasks)
    if task.place >= tasks:
        raise UserError(
            f"task {name} of an array of {tasks} tasks: number them without gaps, such as --array=0-{tasks - 1}, or"
            " give shard=i/n"
        )
    # `SLURM_NTASKS` is there in a batch script, too, which is one process.
    processes = _number("WORLD_SIZE", 0) or _number("SLURM_STEP_NUM_TASKS", 1)
    return task.split(own_rank() % processes, processes)


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)
