"""Checks of a training config that no single component can make."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from sempa_lightning.check import Count, CountOrZero, Range, Share
from sempa_lightning.config_check import check_type
from sempa_lightning.errors import UserError

# Narrower than Lightning's annotations.
_TRAINER: Mapping[str, Any] = {
    "max_steps": Literal[-1] | Count,
    "max_epochs": Literal[-1] | Count | None,
    "min_steps": Count | None,
    "min_epochs": Count | None,
    "num_nodes": Count,
    "log_every_n_steps": CountOrZero | None,
    "val_check_interval": Count | Annotated[float, Range(1e-6, 1)] | str | dict[str, int] | None,
    "limit_train_batches": CountOrZero | Share | None,
    "limit_val_batches": CountOrZero | Share | None,
    "check_val_every_n_epoch": Count | None,
    "num_sanity_val_steps": Literal[-1] | CountOrZero | None,
}


def check_run(config: Mapping[str, Any]) -> None:
    """Check the length of a run, and that data and objective read sentences in the same way.

    Args:
        config: A resolved training config as plain dicts.

    Raises:
        UserError: If a number of the trainer is out of range, the run has no end, or the readouts differ.
    """
    trainer = config["trainer"]
    for key, expected in _TRAINER.items():
        if key in trainer:
            check_type(f"trainer.{key}", trainer[key], expected)
    max_epochs = trainer.get("max_epochs")
    is_endless = max_epochs == -1 or (max_epochs is None and trainer.get("max_time") is not None)
    if is_endless and trainer.get("max_steps", -1) == -1:
        raise UserError(
            "trainer.max_steps: the learning-rate schedule needs the number of steps, and max_epochs sets no end."
            " Set trainer.max_steps=<steps> or trainer.max_epochs=<epochs>; trainer.max_time may end the run earlier."
        )
    for key, readout in _readouts("objective", config["objective"]):
        found = config["data"].get("readout")
        if found != readout:
            name, other = _difference(readout, found)
            raise UserError(
                f"{key}{name}: the objective reads sentences in another way than the data prepare them"
                f" (data.readout{name} is {other!r}). Set readout=<option> for both."
            )


def _readouts(key: str, node: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (a node of a config)
    """The readouts inside a node, with their keys."""
    for name, item in node.items() if isinstance(node, dict) else ():
        if name == "readout":
            yield f"{key}.{name}", item
        else:
            yield from _readouts(f"{key}.{name}", item)


def _difference(one: Any, other: Any) -> tuple[str, Any]:  # noqa: ANN401 (as above)
    """Where two nodes differ first: the rest of the key, and the other's value there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one | other:
            if one.get(name) != other.get(name):
                rest, value = _difference(one.get(name), other.get(name))
                return f".{name}{rest}", value
    return "", other
