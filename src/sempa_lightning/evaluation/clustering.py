"""MTEB's clustering tasks: do clusters of embeddings agree with the labels?"""

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sempa_lightning.data.labelled_texts import LabelledSource, LabelledText, read_labelled
from sempa_lightning.data.missing import why_missing
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.clustering import v_measure


class Clustering:
    """V-measure of k-means over ten random samples: MTEB's protocol since its version 2 of the tasks ("fast").

    Args:
        texts: What is clustered, into as many clusters as there are labels.
        experiments: Samples.
        draws: Texts of a sample, drawn with replacement.
        max_texts: Texts encoded at most, drawn without replacement; null encodes all and draws from all.
        seed: Of the samples and of each k-means; MTEB's is 42.
    """

    _BATCH_SIZE = 512

    def __init__(
        self,
        texts: LabelledSource,
        experiments: int = 10,
        draws: int = 16_384,
        max_texts: int | None = None,
        seed: int = 42,
    ) -> None:
        self._texts = texts
        self._experiments = experiments
        self._draws = draws
        self._max_texts = max_texts
        self._seed = seed

    @property
    def missing(self) -> str | None:
        """Why the texts cannot be read, or None."""
        return self._texts.missing

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode the texts once; an item is an experiment."""
        rows = read_labelled(self._texts)
        rng = random.Random(self._seed)
        if self._max_texts is not None:
            rows = [rows[at] for at in rng.sample(range(len(rows)), k=min(self._max_texts, len(rows)))]
        vectors, labels = _encoded(subject, [rows], progress)[0]
        number = int(labels.max()) + 1
        values = []
        for _ in range(self._experiments):
            drawn = rng.choices(range(len(rows)), k=self._draws)
            clusters = _kmeans(vectors[drawn], number, self._BATCH_SIZE, self._seed)
            values.append(v_measure(clusters, labels[drawn]))
        return _measurement(values, {"texts": len(rows), "labels": number})

    def metrics(self, items: Items) -> dict[str, float]:
        """Mean V-measure of the experiments, 0 to 1."""
        return {"v_measure": float(items["v_measure"].mean())}


class LegacyClustering:
    """V-measure of k-means on whole sets of texts: MTEB's protocol in its version 1 of the tasks.

    Args:
        sets: Each is clustered by itself, into as many clusters as it has labels.
        seeds: Each set is clustered once with each; MTEB's protocol is [42] alone, more show the spread.
    """

    _BATCH_SIZE = 500

    def __init__(self, sets: Sequence[LabelledSource], seeds: Sequence[int] = (42,)) -> None:
        self._sets = sets
        self._seeds = seeds

    @property
    def missing(self) -> str | None:
        """Why a set cannot be read, or None."""
        return why_missing(*self._sets)

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode all sets at once; an item is one set clustered with one seed."""
        sets = [read_labelled(texts) for texts in self._sets]
        values = [
            v_measure(_kmeans(vectors, int(labels.max()) + 1, self._BATCH_SIZE, seed), labels)
            for vectors, labels in _encoded(subject, sets, progress)
            for seed in self._seeds
        ]
        return _measurement(values, {"texts": sum(map(len, sets)), "sets": len(sets)})

    def metrics(self, items: Items) -> dict[str, float]:
        """Mean V-measure, 0 to 1."""
        return {"v_measure": float(items["v_measure"].mean())}


def _encoded(
    subject: Subject, sets: Sequence[Sequence[LabelledText]], progress: Progress
) -> list[tuple[NDArray[np.float32], Tensor]]:
    """Embeddings and label numbers of each set, in one pass."""
    texts = [row.texts[0] for rows in sets for row in rows]
    vectors = subject.embedder.encode(texts, progress)
    parts = torch.split(vectors, [len(rows) for rows in sets])
    return [(part.numpy(), _numbers(rows)) for part, rows in zip(parts, sets, strict=True)]


def _numbers(rows: Sequence[LabelledText]) -> Tensor:
    names = {name: number for number, name in enumerate(sorted({row.label for row in rows}))}
    return torch.tensor([names[row.label] for row in rows])


def _kmeans(vectors: NDArray[np.float32], clusters: int, batch_size: int, seed: int) -> Tensor:
    """Cluster number of each vector, by Euclidean distance: the length of a vector counts."""
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(clusters, batch_size=batch_size, n_init="auto", random_state=seed)
    return torch.from_numpy(kmeans.fit_predict(vectors)).long()


def _measurement(values: Sequence[float], counts: dict[str, int]) -> Measurement:
    items = {"v_measure": torch.tensor(values, dtype=torch.float64)}
    return Measurement(items, counts | {"v_measure_sd": float(np.std(values))})
