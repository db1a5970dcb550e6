"""How a metric is shown: its name, unit, digits, and which way is better."""

from typing import NamedTuple

from sempa_lightning.metrics.direction import Better, better, known


class Display(NamedTuple):
    """How a metric is shown.

    Attributes:
        label: Its name.
        scale: Numbers are multiplied by it.
        digits: Digits after the point.
        better: Which way is better; None where that is open.
    """

    label: str
    scale: float = 1.0
    digits: int = 4
    better: Better | None = None

    @property
    def heading(self) -> str:
        """The name with an arrow that says which way is better."""
        return self.label + {"higher": " ↑", "lower": " ↓", None: ""}[self.better]

    def number(self, value: float) -> str:
        """The number as it is shown; `value` is in the unit of the folder."""
        return shown(value * self.scale, self.digits)


# Scale and digits of those that are not shown as they are with four digits, by their name in `DIRECTIONS`.
_FORMATS = {
    "perplexity": (1.0, 2),
    "gar": (1.0, 3),
    "lar": (1.0, 3),
    "hit": (1.0, 3),
    "alignment rate": (1.0, 3),
    "effective rank": (1.0, 1),
    "rank": (1.0, 1),
    "margin": (1.0, 3),
    "spearman": (100.0, 2),
    "pearson": (100.0, 2),
    "accuracy": (100.0, 2),
    "acc": (100.0, 2),
    "exact match": (100.0, 2),
    "em": (100.0, 2),
    "f1": (100.0, 2),
    "measure": (100.0, 2),
    "precision": (100.0, 2),
    "recall": (100.0, 2),
    "ndcg": (100.0, 2),
    "map": (100.0, 2),
    "mrr": (100.0, 2),
    "ap": (100.0, 2),
    "main score": (100.0, 2),
}

_NAMES = {
    "kl": "KL",
    "gar": "GAR",
    "lar": "LAR",
    "nll": "NLL",
    "f1": "F1",
    "ap": "AP",
    "spearman": "Spearman",
    "pearson": "Pearson",
}


def display(metric: str) -> Display:
    """Say how a metric is shown.

    >>> display("next_token_accuracy").number(0.25128)
    '25.13'
    >>> display("uniformity").heading
    'uniformity ↓'
    """
    label = " ".join(_NAMES.get(word, word) for word in metric.removesuffix(",none").replace("_", " ").split(" "))
    scale, digits = _FORMATS.get(known(metric) or "", (1.0, 4))
    return Display(label, scale, digits, better(metric))


def shown(value: float, digits: int, *, sign: bool = False) -> str:
    """A number as it is printed, with a true minus sign.

    >>> shown(-1.005, 1), shown(0.123, 2, sign=True), shown(-0.0001, 2, sign=True)
    ('−1.0', '+0.12', '0.00')
    """
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("+-")
    return text.replace("-", "−")
