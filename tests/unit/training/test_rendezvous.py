"""Variables with which processes find each other, or not."""

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.training.rendezvous import check_rendezvous

AGENT = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29400", "TORCHELASTIC_MAX_RESTARTS": "3"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "65535"},
        AGENT | {"TORCHELASTIC_USE_AGENT_STORE": "False"},
        AGENT | {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_MAX_RESTARTS": "0"},
    ],
)
def test_processes_that_can_meet(environment):
    check_rendezvous(environment)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MASTER_PORT": "abc"}, "MASTER_PORT=abc is no port"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT=65536 is no port"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT=0 is no port"),
        ({"MASTER_ADDR": "no-such-machine.invalid"}, "no-such-machine.invalid: no machine is known by that name"),
        (AGENT | {"TORCHELASTIC_USE_AGENT_STORE": "True"}, "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"),
    ],
)
def test_processes_that_would_wait_in_vain(environment, message):
    with pytest.raises(UserError, match=message):
        check_rendezvous(environment)
