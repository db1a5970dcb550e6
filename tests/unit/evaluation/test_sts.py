import json

import pytest
import scipy.stats

from sempa_lightning.data.scored_pairs import JsonlPairs, SemEvalFolder
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.bootstrap import change_standard_errors
from sempa_lightning.evaluation.sts import Sts


@pytest.fixture
def year(tmp_path, sentences):
    """Two subsets of unlike size."""
    for subset, start, number in (("news", 0, 12), ("forum", 40, 30)):
        pairs = [f"{sentences[start + n]}\t{sentences[start + n + 1]}" for n in range(number)]
        (tmp_path / f"STS.input.{subset}.txt").write_text("\n".join(pairs))
        (tmp_path / f"STS.gs.{subset}.txt").write_text("\n".join(str(n * 7 % 11 / 2) for n in range(number)))
    return SemEvalFolder(str(tmp_path))


def test_three_aggregations_side_by_side(tiny_subject, year, encoded):
    task = Sts(year)
    measured = task.run(tiny_subject, iter)
    assert len(encoded) == 1
    cosine, gold, subset = (measured.items[name].numpy() for name in ("cosine", "gold", "subset"))
    values = task.metrics(measured.items)
    for name, correlation in (("spearman", scipy.stats.spearmanr), ("pearson", scipy.stats.pearsonr)):
        forum, news = (correlation(cosine[subset == n], gold[subset == n]).statistic for n in (0, 1))
        assert values[name] == pytest.approx(correlation(cosine, gold).statistic, abs=1e-5)
        assert values[f"{name}_mean"] == pytest.approx((forum + news) / 2, abs=1e-5)
        assert values[f"{name}_wmean"] == pytest.approx((30 * forum + 12 * news) / 42, abs=1e-5)
        assert len({round(values[key], 4) for key in values if key.startswith(name)}) == 3, "they differ"
    assert {name: part["pairs"] for name, part in measured.notes["subsets"].items()} == {"forum": 30, "news": 12}
    assert json.loads(json.dumps(measured.notes)) == measured.notes


def test_a_bootstrap_sample_keeps_pairs_and_subsets_together(tiny_subject, year):
    task = Sts(year)
    items = task.run(tiny_subject, iter).items
    errors = change_standard_errors(task.metrics, items, items | {"cosine": items["gold"]}, resamples=20)
    assert errors.keys() == task.metrics(items).keys()
    assert all(0 < error < 1 for error in errors.values())


def test_without_subsets_there_is_one_number_of_each_kind(tiny_subject, tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [{"sentence1": f"{n} cats", "sentence2": f"{n * n} dogs", "score": n} for n in range(5)]
    path.write_text("\n".join(map(json.dumps, lines)))
    task = Sts(JsonlPairs(str(path)))
    measured = task.run(tiny_subject, iter)
    assert task.metrics(measured.items).keys() == {"spearman", "pearson"}
    assert measured.notes == {"pairs": 5}
    path.write_text(json.dumps(lines[0]))
    with pytest.raises(UserError, match="two pairs or more"):
        task.run(tiny_subject, iter)
