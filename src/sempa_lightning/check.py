"""Ranges of parameters, and their checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from sempa_lightning.errors import UserError


@dataclass(frozen=True)
class Range:
    """Range of a number, as an annotation: `Annotated[float, Range(0, 1)]`.

    Attributes:
        low: The smallest value.
        high: The largest value.
        open: Whether both ends are outside of the range.
    """

    low: int | float
    high: int | float = float("inf")
    open: bool = False

    def holds(self, value: int | float) -> bool:
        """Return whether a finite number is in the range."""
        if value in (float("inf"), float("-inf")):
            return False
        return self.low < value < self.high if self.open else self.low <= value <= self.high

    def __str__(self) -> str:
        if self.high == float("inf"):
            return f"{'above' if self.open else '≥'} {self.low}"
        return f"{'between' if self.open else 'from'} {self.low} {'and' if self.open else 'to'} {self.high}"


Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, open=True)]
Seed = Annotated[int, Range(0, 2**32 - 1)]


def check(name: str, value: object, holds: Callable[[float], bool], what: str) -> None:
    """Refuse a parameter that is not as it must be.

    Raises:
        UserError: If it is no number, or the condition does not hold.

    Example:
        >>> check("loss.beta", 0.1, lambda beta: beta > 0, "above 0")
        >>> check("loss.beta", 0.0, lambda beta: beta > 0, "above 0")
        Traceback (most recent call last):
        sempa_lightning.errors.UserError: loss.beta=0.0 is not above 0
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
        raise UserError(f"{name}={value} is not {what}")


def check_weight(name: str, weight: float) -> None:
    """Refuse the weight of a term that would turn it round."""
    check(name, weight, lambda weight: 0 <= weight < float("inf"), "at least 0")


def check_count(name: str, count: object, least: int = 1) -> None:
    """Refuse a number of things that is none; `true` would count as one.

    Raises:
        UserError: If it is not a whole number, or below `least`, which is 0 or 1.

    Example:
        >>> check_count("data.batch_size", 32)
        >>> check_count("data.batch_size", 0)
        Traceback (most recent call last):
        sempa_lightning.errors.UserError: data.batch_size=0 is not a whole number above 0
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise UserError(f"{name}={count} is not a whole number {'above 0' if least else 'from 0 on'}")


def check_choice(name: str, choice: object) -> None:
    """Refuse a switch that is neither on nor off: any text would count as on.

    Raises:
        UserError: If it is not a bool.
    """
    if not isinstance(choice, bool):
        raise UserError(f"{name}={choice} is neither true nor false")


def check_beta(beta: float) -> None:
    """Refuse a scale of implicit rewards that would turn preferences round, or silence them."""
    check("loss.beta", beta, lambda beta: 0 < beta < float("inf"), "above 0")


def check_label_smoothing(label_smoothing: float) -> None:
    """Refuse a share of exchanged labels that is none, or from which on the labels say the opposite."""
    check("loss.label_smoothing", label_smoothing, lambda share: 0 <= share < 0.5, "at least 0 and below 0.5")  # noqa: PLR2004 (half)
