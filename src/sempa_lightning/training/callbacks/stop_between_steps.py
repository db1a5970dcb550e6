"""A run that a signal asks to end leaves between two steps, and can be gone on with."""

import signal
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

# Of Ctrl-C; of `kill`, of a sweep and of SLURM when the time is up; of SLURM's `--signal` before that.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopBetweenSteps(Callback):
    """Ends training after the step in which a signal comes, all processes together, after its validation if it has one.

    A step that ends an epoch without a validation is followed by one more: Lightning would not resume what it saves
    between two epochs. Its own handler talks to the other processes in the middle of whatever they do, and breaks off
    validations. A second Ctrl-C ends the run at once.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._is_leaving = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 (Lightning's signature)
        """Take the place of Lightning's handlers; at the end it puts back those from before its own."""
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:  # noqa: ANN401 (Lightning's signature)
        """Agree with the other processes on whether this was the last step."""
        self._is_leaving = trainer.strategy.reduce_boolean_decision(self._is_asked, all=False)
        _leave_after_step(trainer, self._is_leaving and not trainer.is_last_batch)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Have the validation run to its end."""
        _leave_after_step(trainer, False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Leave after it."""
        _leave_after_step(trainer, self._is_leaving)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self._is_asked = True
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)


def _leave_after_step(trainer: Trainer, leave: bool) -> None:
    """Have Lightning raise `SIGTERMException` when it has logged the step, or not."""
    trainer._signal_connector.received_sigterm = leave
