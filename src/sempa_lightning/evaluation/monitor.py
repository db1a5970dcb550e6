"""Which way the metric that checkpoints are chosen by is better."""

from typing import Literal

from sempa_lightning.errors import UserError
from sempa_lightning.metrics.direction import better

Mode = Literal["max", "min"]

# The best value of the monitored metric in `summary.json`.
BEST = "train/best"


def monitor_mode(monitor: str, mode: str | None) -> Mode:
    """Return whether the largest or the smallest value of the monitored metric is the best.

    Args:
        monitor: Its name, such as `val/loss`.
        mode: `max` or `min`; None goes by the name.

    Raises:
        UserError: If `mode` is something else, or the name does not tell.

    Example:
        >>> monitor_mode("val/loss", None), monitor_mode("eval/sts/dev/spearman", None)
        ('min', 'max')
    """
    direction = better(monitor.rpartition("/")[2])
    if mode is None and direction is None:
        raise UserError(f"monitor={monitor}: its name does not say which way is better. Set monitor_mode=max or min.")
    if mode not in (None, "max", "min"):
        raise UserError(f"monitor_mode={mode}: set max, min or null")
    return "min" if mode == "min" or (mode is None and direction == "lower") else "max"
