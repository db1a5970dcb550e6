import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.report.papers import Papers, _rows, papers_of


@pytest.mark.parametrize(("table", "count"), [("sts", 25), ("generation", 6), ("seeds", 3)])
def test_each_printed_average_is_the_mean_of_its_row(table, count):
    rows = _rows(table)
    assert len(rows) == count
    for row in rows:
        assert sum(row.values.values()) / len(row.values) == pytest.approx(row.average, abs=0.00501)


def test_seeds_have_the_printed_mean_and_standard_deviation():
    import statistics

    averages = [row.average for row in _rows("seeds")]
    assert round(statistics.mean(averages), 2) == 78.10
    assert round(statistics.stdev(averages), 2) == 0.36


def test_rows_are_those_of_one_model():
    rows = Papers("LLaMA3-8B").rows("geometry")
    assert [(row.method, row.values["uniformity"]) for row in rows] == [
        ("mean pooling", -0.8112),
        ("PromptEOL", -1.3277),
        ("SemPA", -2.3298),
    ]
    assert Papers(None).rows("sts") == []


def test_an_unknown_model_is_an_error_that_names_the_known():
    with pytest.raises(UserError, match="LLaMA2-7B"):
        papers_of([], "GPT-2")
