"""MTEB's classification tasks: how much does a linear classifier learn from a few texts of each label?"""

from collections import Counter
from typing import Any

import numpy as np
import torch

from sempa_lightning.data.labelled_texts import LabelledSource, read_labelled
from sempa_lightning.data.missing import why_missing
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.classification import accuracy, macro_f1

_MAX_ITERATIONS = 100


class Classification:
    """Accuracy and macro F1 of logistic regression, trained ten times on a few random texts of each label.

    Args:
        train: Texts to draw from.
        test: Texts that every classifier is tested on.
        samples_per_label: Training texts of each label, fewer where there are fewer.
        experiments: Draws.
        seed: Of the draws and the classifier; MTEB's is 42.
    """

    def __init__(
        self,
        train: LabelledSource,
        test: LabelledSource,
        samples_per_label: int = 8,
        experiments: int = 10,
        seed: int = 42,
    ) -> None:
        self._train = train
        self._test = test
        self._samples_per_label = samples_per_label
        self._experiments = experiments
        self._seed = seed

    @property
    def missing(self) -> str | None:
        """Why a part cannot be read, or None."""
        return why_missing(self._train, self._test)

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Encode the test texts and the training texts that some experiment draws; an item is an experiment.

        Raises:
            UserError: If the test texts have a label that the training texts lack.
        """
        train, test = read_labelled(self._train), read_labelled(self._test)
        names = sorted({row.label for row in train})
        if unknown := sorted({row.label for row in test} - set(names)):
            raise UserError(f"{self._test.name} has labels that {self._train.name} lacks: {', '.join(unknown)}")
        gold = torch.tensor([names.index(row.label) for row in test])
        draws = self._draws([row.label for row in train])
        used = sorted(set().union(*draws))
        texts = [train[at].texts[0] for at in used] + [row.texts[0] for row in test]
        vectors = subject.embedder.encode(texts, progress).numpy()
        place = {at: number for number, at in enumerate(used)}
        items: dict[str, list[float]] = {"accuracy": [], "f1": []}
        unfinished = 0
        for drawn in draws:
            classifier = self._fitted(
                vectors[[place[at] for at in drawn]], [names.index(train[at].label) for at in drawn]
            )
            unfinished += int(classifier.n_iter_.max() >= _MAX_ITERATIONS)
            predicted = torch.from_numpy(classifier.predict(vectors[len(used) :]))
            items["accuracy"].append(accuracy(predicted, gold))
            items["f1"].append(macro_f1(predicted, gold))
        spread = {f"{name}_sd": float(np.std(values)) for name, values in items.items()}
        counts = {"labels": len(names), "test": len(test), "not_converged": unfinished}
        return Measurement({name: torch.tensor(values).double() for name, values in items.items()}, counts | spread)

    def metrics(self, items: Items) -> dict[str, float]:
        """Means over the experiments, 0 to 1."""
        return {name: float(values.mean()) for name, values in items.items()}

    def _draws(self, labels: list[str]) -> list[list[int]]:
        """Training rows of each experiment: MTEB shuffles what the experiment before has shuffled, by the same seed."""
        order = list(range(len(labels)))
        draws = []
        for _ in range(self._experiments):
            np.random.RandomState(self._seed).shuffle(order)
            taken: Counter[str] = Counter()
            drawn = []
            for at in order:
                if taken[labels[at]] < self._samples_per_label:
                    drawn.append(at)
                    taken[labels[at]] += 1
            draws.append(drawn)
        return draws

    def _fitted(self, vectors: Any, labels: list[int]) -> Any:  # noqa: ANN401 (arrays and estimators of scikit-learn)
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        classifier = LogisticRegression(max_iter=_MAX_ITERATIONS, random_state=self._seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol stops there; the notes count it
            return classifier.fit(vectors, labels)
