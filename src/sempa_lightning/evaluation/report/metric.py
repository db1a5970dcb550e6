"""How a metric is shown: its name, unit, digits, and which way is better."""

import re
from typing import Literal, NamedTuple

Better = Literal["higher", "lower"]


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


# The first whose words all occur in the metric's name says how to show it; words are what `_` and signs separate.
_KNOWN: tuple[tuple[str, float, int, Better | None], ...] = (
    ("kl", 1.0, 4, "lower"),
    ("perplexity", 1.0, 2, "lower"),
    ("nll", 1.0, 4, "lower"),
    ("loss", 1.0, 4, "lower"),
    ("uniformity", 1.0, 4, "lower"),
    ("gar", 1.0, 3, "higher"),
    ("lar", 1.0, 3, "higher"),
    ("hit", 1.0, 3, "higher"),
    ("alignment rate", 1.0, 3, "higher"),
    ("alignment", 1.0, 4, "lower"),
    ("isotropy", 1.0, 4, "higher"),
    ("effective rank", 1.0, 1, "higher"),
    ("rank", 1.0, 1, None),
    ("mean cosine", 1.0, 4, "lower"),
    ("margin", 1.0, 3, "higher"),
    ("spearman", 100.0, 2, "higher"),
    ("pearson", 100.0, 2, "higher"),
    ("accuracy", 100.0, 2, "higher"),
    ("acc", 100.0, 2, "higher"),
    ("exact match", 100.0, 2, "higher"),
    ("em", 100.0, 2, "higher"),
    ("f1", 100.0, 2, "higher"),
    ("measure", 100.0, 2, "higher"),
    ("precision", 100.0, 2, "higher"),
    ("recall", 100.0, 2, "higher"),
    ("ndcg", 100.0, 2, "higher"),
    ("map", 100.0, 2, "higher"),
    ("mrr", 100.0, 2, "higher"),
    ("ap", 100.0, 2, "higher"),
    ("main score", 100.0, 2, "higher"),
)

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
    words = re.findall(r"[a-z0-9]+", metric.lower())
    label = " ".join(_NAMES.get(word, word) for word in metric.removesuffix(",none").replace("_", " ").split(" "))
    for known, scale, digits, better in _KNOWN:
        if set(known.split()) <= set(words):
            return Display(label, scale, digits, better)
    return Display(label)


def shown(value: float, digits: int, *, sign: bool = False) -> str:
    """A number as it is printed, with a true minus sign.

    >>> shown(-1.005, 1), shown(0.123, 2, sign=True), shown(-0.0001, 2, sign=True)
    ('−1.0', '+0.12', '0.00')
    """
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("+-")
    return text.replace("-", "−")
