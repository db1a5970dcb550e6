"""Where the processes of a run find each other, checked before any of them loads a model."""

import socket
from collections.abc import Mapping

from sempa_lightning.errors import UserError


def check_rendezvous(environment: Mapping[str, str]) -> None:
    """Refuse variables with which processes would wait for each other in vain.

    Args:
        environment: Variables of this process, as a user, torchrun or a cluster has set them.

    Raises:
        UserError: If `MASTER_PORT` is no port, if no machine is known by `MASTER_ADDR`, or if torchrun would start
            processes again where they cannot meet.
    """
    port = environment.get("MASTER_PORT", "29500")
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"MASTER_PORT={port} is no port: unset it, or set it to a free one from 1 to 65535")
    if address := environment.get("MASTER_ADDR"):
        try:
            socket.getaddrinfo(address, None)
        except OSError as error:
            raise UserError(
                f"MASTER_ADDR={address}: no machine is known by that name ({error.strerror}); unset it on a single"
                " machine, else set it to the name or address of the first"
            ) from error
    # Torch 2.13: its agent keeps the store over a restart, where processes read addresses of the dead (pytorch#135712).
    keeps_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if keeps_store and environment.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise UserError(
            "after a restart by torchrun processes would look for the dead ones: set"
            " TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, with --standalone or --rdzv-backend c10d, or leave out"
            " --max-restarts"
        )
