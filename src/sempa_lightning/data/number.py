"""Numbers of data files, checked where they are read."""

import math

from sempa_lightning.errors import UserError


def finite_number(value: object, where: str) -> float:
    """Return a number of a typed file such as JSON; `where` names file, place and column.

    Raises:
        UserError: If it is a boolean, a text, missing, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = repr(value)[:60] if isinstance(value, str | bool | None) else type(value).__name__
        raise UserError(f"{where} is {found}, not a number")
    return _finite(value, where)


def parsed_number(text: str, where: str) -> float:
    """Return the number that a text file spells out; `where` names file, place and column.

    Raises:
        UserError: If the text is no number, NaN or infinite.
    """
    try:
        return _finite(float(text), where)
    except ValueError:
        raise UserError(f"{where} is {text[:60]!r}, not a number") from None


def _finite(value: int | float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"{where} is {number}, not a finite number")
    return number
