"""All processes of a run must have been given the same config."""

import json
from collections.abc import Iterator
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from sempa_lightning.errors import UserError


class SameConfig(Callback):
    """Stops a run whose processes differ in their configs: each would train, or wait for, something else.

    Args:
        config: This process's resolved config, as plain values.
    """

    def __init__(self, config: Any) -> None:  # noqa: ANN401 (what YAML holds)
        self._values = dict(_flat(config))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 (Lightning's signature)
        """Compare with the first process.

        Raises:
            UserError: On the first process, which tells; others end.
        """
        if trainer.world_size == 1:
            return
        found: list[dict[str, str]] = [{} for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(found, self._values)
        for rank, values in enumerate(found):
            for key in sorted(found[0].keys() | values.keys()):
                one, other = found[0].get(key), values.get(key)
                if one != other:
                    if not trainer.is_global_zero:
                        raise SystemExit(1)
                    raise UserError(
                        f"process {rank} has {key}={other} and process 0 has {key}={one}: start all with the same words"
                    )


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 (as above)
    """Values that hold no others, by dotted key."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, (dict, list)):
        yield key, json.dumps(value)
    for name, child in children:
        yield from _flat(child, f"{key}.{name}".lstrip("."))
