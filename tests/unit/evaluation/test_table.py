"""What is printed of a summary."""

import io

import pytest

from sempa_lightning.evaluation.table import print_summary
from sempa_lightning.terminal import Terminal


def printed(summary):
    stream = io.StringIO()
    print_summary(summary, Terminal(file=stream, width=80))
    return stream.getvalue()


@pytest.mark.parametrize("summary", [{}, {"train/steps": 7.0}])
def test_no_table_without_a_metric(summary):
    assert printed(summary) == ""


def test_a_metric_before_and_after():
    summary = {"before/sts/demo/spearman": 0.5, "after/sts/demo/spearman": 0.625, "change_se/sts/demo/spearman": 0.25}
    (row,) = (line for line in printed(summary).splitlines() if "spearman" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "sts/demo/spearman", "0.5", "0.625", "+0.1250", "0.2500"
    ]  # fmt: skip


def test_a_metric_of_a_model_that_was_not_trained():
    (row,) = (line for line in printed({"before/sts/demo/spearman": 0.5}).splitlines() if "spearman" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["sts/demo/spearman", "0.5"]
