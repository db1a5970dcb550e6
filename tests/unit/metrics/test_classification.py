import math

import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from sempa_lightning.metrics.classification import accuracy, average_precision, f1, macro_f1


def test_by_hand():
    predicted, gold = torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 1, 1])
    assert accuracy(predicted, gold) == 0.5
    assert f1(predicted, gold) == pytest.approx(2 * 2 / (3 + 3))
    assert macro_f1(predicted, gold) == pytest.approx((2 / 3 + 0) / 2)
    assert f1(torch.tensor([0, 0]), torch.tensor([0, 0])) == 0
    # Positives at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert average_precision(torch.tensor([0.9, 0.5, 0.1]), torch.tensor([1, 0, 1])) == pytest.approx(5 / 6)
    # All tied: the share of positives, in whichever order they come.
    assert average_precision(torch.zeros(4), torch.tensor([1, 0, 0, 0])) == pytest.approx(1 / 4)
    assert math.isnan(average_precision(torch.rand(3), torch.tensor([0, 0, 0])))


@pytest.mark.parametrize("classes", [2, 7])
def test_equal_to_scikit_learn(classes):
    generator = torch.Generator().manual_seed(classes)
    gold = torch.randint(classes, (200,), generator=generator)
    predicted = torch.where(
        torch.rand(200, generator=generator) < 0.6, gold, torch.randint(classes + 1, (200,), generator=generator)
    )
    assert accuracy(predicted, gold) == pytest.approx(accuracy_score(gold, predicted))
    assert macro_f1(predicted, gold) == pytest.approx(f1_score(gold, predicted, average="macro"))
    binary, scores = (gold == 1).long(), (gold + 3 * torch.rand(200, generator=generator)).round(decimals=1)
    assert len(scores.unique()) < 150, "there are ties"
    assert f1((predicted == 1).long(), binary) == pytest.approx(f1_score(binary, predicted == 1))
    assert average_precision(scores, binary) == pytest.approx(average_precision_score(binary, scores))
