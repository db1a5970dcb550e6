"""Which way a metric is better, by its name."""

import re
from typing import Literal

Better = Literal["higher", "lower"]

# The first whose words all occur in a metric's name; words are what `_` and signs separate.
DIRECTIONS: dict[str, Better | None] = {
    "kl": "lower",
    "perplexity": "lower",
    "nll": "lower",
    "loss": "lower",
    "uniformity": "lower",
    "gar": "higher",
    "lar": "higher",
    "hit": "higher",
    "alignment rate": "higher",
    "alignment": "lower",
    "isotropy": "higher",
    "effective rank": "higher",
    "rank": None,
    "mean cosine": "lower",
    "margin": "higher",
    "margins": "higher",
    "spearman": "higher",
    "pearson": "higher",
    "accuracy": "higher",
    "accuracies": "higher",
    "acc": "higher",
    "exact match": "higher",
    "em": "higher",
    "f1": "higher",
    "measure": "higher",
    "precision": "higher",
    "recall": "higher",
    "ndcg": "higher",
    "map": "higher",
    "mrr": "higher",
    "ap": "higher",
    "main score": "higher",
}


def known(metric: str) -> str | None:
    """Return the entry of `DIRECTIONS` that a metric's name falls under, None if there is none.

    Example:
        >>> known("next_token_accuracy")
        'accuracy'
    """
    words = set(re.findall(r"[a-z0-9]+", metric.lower()))
    return next((name for name in DIRECTIONS if set(name.split()) <= words), None)


def better(metric: str) -> Better | None:
    """Return which way a metric is better; None where that is open.

    Example:
        >>> better("perplexity"), better("val/loss"), better("logps")
        ('lower', 'lower', None)
    """
    name = known(metric)
    return None if name is None else DIRECTIONS[name]
