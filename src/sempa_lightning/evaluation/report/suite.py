"""What the report knows of suites: their family, their tasks' names, and the metric that speaks for a task."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Family(NamedTuple):
    """Suites that share a table.

    Attributes:
        name: A suite belongs to it whose name is this, or begins with this and `_`.
        title: Heading of its table.
        headline: The metric that speaks for a task: the first of these that it has.
        averaged: Whether a mean over tasks means something.
    """

    name: str
    title: str
    headline: tuple[str, ...] = ()
    averaged: bool = False


FAMILIES = (
    Family("sts", "Semantic textual similarity", ("spearman", "spearman_all"), averaged=True),
    Family("harness", "Generation: benchmarks", ("acc_norm", "exact_match", "f1", "acc"), averaged=True),
    Family("generation", "Generation: held-out text"),
    Family("transfer", "Transfer", ("accuracy",), averaged=True),
    Family("clustering", "Clustering", ("v_measure",), averaged=True),
    Family("classification", "Classification", ("accuracy",), averaged=True),
    Family("pairs", "Paraphrase pairs", ("average_precision", "ap", "max_ap"), averaged=True),
    Family("mteb", "MTEB", ("main_score",), averaged=True),
    Family("geometry", "Geometry of the embeddings"),
    Family("tokens", "Tokens that an embedding decodes to"),
    Family("attention", "Attention of the last token"),
    Family("preference", "Preference"),
    Family("samples", "Samples"),
)

# SemPA's Table 3, in its order: these and no others are its average.
STS_TASKS = {
    "sts12": "STS12",
    "sts13": "STS13",
    "sts14": "STS14",
    "sts15": "STS15",
    "sts16": "STS16",
    "stsb": "STS-B",
    "sick": "SICK-R",
}
_SAME = {"stsbenchmark": "stsb", "sickr": "sick", "sickrelatedness": "sick"}


def family(suite: str) -> Family:
    """The family of a suite; one of its own if the report does not know it."""
    for known in FAMILIES:
        if suite == known.name or suite.startswith(f"{known.name}_"):
            return known
    return Family(suite, suite.replace("_", " "))


def sts_task(task: str) -> str:
    """The name that STS tasks have in this report.

    >>> sts_task("sts/STSBenchmark"), sts_task("sts_hub/sick_r"), sts_task("sts/demo")
    ('stsb', 'sick', 'demo')
    """
    name = task.rpartition("/")[2]
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    plain = _SAME.get(plain, plain)
    return plain if plain in STS_TASKS else name


def headline_metric(task: str, metrics: Iterable[str], notes: Mapping[str, object]) -> str | None:
    """The metric that speaks for a task: the one that its notes name, else the family's, else its first."""
    names = list(metrics)
    if (chosen := notes.get("headline")) in names:
        return str(chosen)
    for wanted in family(task.partition("/")[0]).headline:
        for name in names:
            if wanted in (name, name.partition(",")[0]):
                return name
    return names[0] if names else None
