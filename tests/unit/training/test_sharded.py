"""What the strategy itself refuses; what it does: tests/integration/test_fsdp.py."""

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.training.sharded import Sharded


@pytest.mark.parametrize("replicas", [0, 2])
def test_replicas_that_do_not_divide_the_processes(tiny_llama, replicas):
    strategy = Sharded(replicas, offload=False, timeout_minutes=1)
    with pytest.raises(UserError, match=rf"1 processes cannot hold the model {replicas} times: set trainer\.strategy"):
        strategy.shard(tiny_llama)
