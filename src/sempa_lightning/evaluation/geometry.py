"""How embeddings fill their space, and how close paraphrases are in it."""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure

from sempa_lightning.data.missing import why_missing
from sempa_lightning.data.scored_pairs import PairSource
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.geometry import (
    cosine_values,
    entropy_values,
    partition_values,
    potential_values,
    squared_distances,
)

_FEWEST = 3
_MOST_POINTS = 500
_COLUMNS = 2
_COLOUR = "#0072b2"


class Geometry:
    """Uniformity, isotropy (SemPA, Table 5), mean cosine and effective rank of a set of sentences, on unit vectors.

    Args:
        sentences: The set; equal sentences count once. They should be independent of each other: the first sentence of
            each pair of a benchmark rather than both.
        max_sentences: Sentences used at most, all when null.
    """

    def __init__(self, sentences: Iterable[str], max_sentences: int | None = None) -> None:
        self._sentences = sentences
        self._max_sentences = max_sentences

    @property
    def missing(self) -> str | None:
        """Why the sentences cannot be read, or None."""
        return why_missing(self._sentences)

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode all sentences; an item is a sentence, with values whose means make the numbers of the whole set.

        A sample drawn with replacement therefore never compares a sentence with its own copy (see
        `metrics/geometry.py`). The eigenvectors behind isotropy and effective rank stay those of the whole set.

        Raises:
            UserError: If there are fewer than three sentences.
        """
        sentences = list(dict.fromkeys(self._sentences))[: self._max_sentences]
        if len(sentences) < _FEWEST:
            raise UserError(f"geometry needs {_FEWEST} different sentences or more, but there are {len(sentences)}")
        embedder = subject.embedder
        vectors = embedder.encode(sentences, progress)
        unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
        smallest, largest = partition_values(unit).unbind(-1)
        left, values, _ = torch.linalg.svd(unit - unit.mean(0), full_matrices=False)
        points = (left * values)[:_MOST_POINTS, :2]
        return Measurement(
            {
                "potential": potential_values(unit),
                "cosine": cosine_values(unit),
                "smallest_partition": smallest,
                "largest_partition": largest,
                "entropy": entropy_values(unit),
            },
            {
                "sentences": len(sentences),
                "truncated": embedder.truncated(sentences),
                "points": [[round(value, 5) for value in point] for point in points.tolist()],
                "explained": (values.square() / values.square().sum())[:2].tolist(),
            },
        )

    def metrics(self, items: Items) -> dict[str, float]:
        """Uniformity (-8 to 0, lower is more uniform), isotropy and mean cosine (to 1), effective rank."""
        return {
            "uniformity": float(items["potential"].mean().log()),
            "isotropy": float(items["smallest_partition"].mean() / items["largest_partition"].mean()),
            "mean_cosine": float(items["cosine"].mean()),
            "effective_rank": float(items["entropy"].mean().exp()),
        }

    def picture(self, measured: Mapping[str, Measurement]) -> Figure:
        """The first two principal components of each subject's unit vectors, all on axes of one size."""
        columns = min(len(measured), _COLUMNS)
        rows = -(-len(measured) // columns)
        figure = Figure(figsize=(8, 4.2 * rows), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        points = {label: torch.tensor(measurement.notes["points"]) for label, measurement in measured.items()}
        first = next(iter(points.values()))
        reach = 1.05 * max(float(values.abs().max()) for values in points.values())
        for axis in axes:
            axis.set_axis_off()
        for axis, (label, measurement) in zip(axes, measured.items(), strict=False):
            axis.set_axis_on()
            values = points[label]
            if len(values) == len(first):  # a component's sign means nothing: let it look like the first subject's
                values = values * torch.where((values * first).sum(0) < 0, -1, 1)
            axis.scatter(*values.T, s=12, alpha=0.6, color=_COLOUR, linewidths=0)
            horizontal, vertical = measurement.notes["explained"]
            numbers = self.metrics(measurement.items)
            axis.set_title(
                f"{label}\nuniformity {numbers['uniformity']:.2f}, isotropy {numbers['isotropy']:.2f}", fontsize=10
            )
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
            axis.set_xlabel(f"component 1, {100 * horizontal:.0f} % of variance")
            axis.set_ylabel(f"component 2, {100 * vertical:.0f} % of variance")
            axis.tick_params(labelbottom=True, labelleft=True)
            axis.grid(alpha=0.3)
        return figure


class Alignment:
    """Mean squared distance of paraphrases (Wang & Isola 2020), on unit vectors.

    Args:
        pairs: Scored pairs.
        min_score: Pairs of this score or more are paraphrases; 4 of 5 is usual for STS-B (Gao et al. 2021).
    """

    def __init__(self, pairs: PairSource, min_score: float = 4.0) -> None:
        self._pairs = pairs
        self._min_score = min_score

    @property
    def missing(self) -> str | None:
        """Why the pairs cannot be read, or None."""
        return self._pairs.missing

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode the paraphrases; an item is a pair.

        Raises:
            UserError: If no pair has the score.
        """
        positive = [pair for pair in self._pairs if pair.score >= self._min_score]
        if not positive:
            raise UserError(f"alignment needs pairs with a score of {self._min_score} or more, but there is none")
        sentences = [pair.sentence1 for pair in positive] + [pair.sentence2 for pair in positive]
        embedder = subject.embedder
        first, second = embedder.encode(sentences, progress).chunk(2)
        return Measurement(
            {"squared_distance": squared_distances(first, second)},
            {"pairs": len(positive), "truncated": embedder.truncated(sentences)},
        )

    def metrics(self, items: Items) -> dict[str, float]:
        """Alignment, 0 to 4, lower is closer."""
        return {"alignment": float(items["squared_distance"].mean())}
