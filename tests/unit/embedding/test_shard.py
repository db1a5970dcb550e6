"""Shares of a corpus, as the command line, torchrun, srun and SLURM arrays name them."""

import pytest

from sempa_lightning.embedding.shard import Shard, own_shard
from sempa_lightning.errors import UserError

NAMES = (
    "RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS",
    "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT",
)  # fmt: skip


@pytest.fixture
def share(monkeypatch):
    """The share of a process that these variables alone tell where it is."""

    def share(named=None, **variables):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        return own_shard(named)

    return share


def test_a_process_alone_has_all(share):
    assert share() == Shard(0, 1)


def test_the_command_line_wins(share):
    assert share("2/5", RANK=1, WORLD_SIZE=2, SLURM_ARRAY_TASK_ID=3, SLURM_ARRAY_TASK_COUNT=4) == Shard(2, 5)


def test_torchrun_and_srun(share):
    assert share(RANK=3, WORLD_SIZE=4) == Shard(3, 4)
    assert share(SLURM_PROCID=3, SLURM_STEP_NUM_TASKS=4) == Shard(3, 4)


def test_a_batch_script_is_one_process_however_many_tasks_it_may_start(share):
    assert share(SLURM_PROCID=0, SLURM_NTASKS=4) == Shard(0, 1)


def test_tasks_of_an_array_from_0_or_from_1(share):
    for first in 0, 1:
        array = {"SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_COUNT": 3}
        shares = [share(SLURM_ARRAY_TASK_ID=first + place, **array) for place in range(3)]
        assert shares == [Shard(0, 3), Shard(1, 3), Shard(2, 3)]


def test_processes_within_tasks_have_all_shares_once(share):
    shares = [
        share(SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT=3, SLURM_PROCID=rank, SLURM_STEP_NUM_TASKS=2)
        for task in range(3)
        for rank in range(2)
    ]
    assert sorted(shares) == [Shard(place, 6) for place in range(6)]


@pytest.mark.parametrize("named", ["4/4", "1", "a/b", "-1/2", "0/0", "1/2/3"])
def test_what_is_no_share(share, named):
    with pytest.raises(UserError, match=f"shard={named} is no share: give i/n"):
        share(named)


def test_an_array_with_gaps_is_refused(share):
    with pytest.raises(UserError, match="task 7 of an array of 2 tasks: number them without gaps, such as --array=0-1"):
        share(SLURM_ARRAY_TASK_ID=7, SLURM_ARRAY_TASK_MIN=3, SLURM_ARRAY_TASK_COUNT=2)
