import pytest

from sempa_lightning.artifacts import EvaluationDir, RunDir


@pytest.mark.parametrize("kind", [RunDir, EvaluationDir])
def test_a_folder_without_files_reads_as_empty(kind, tmp_path):
    folder = kind(tmp_path)
    assert (folder.read_config(), folder.read_manifest(), folder.read_summary()) == ({}, {}, {})


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    run, evaluation = RunDir(tmp_path), EvaluationDir(tmp_path)
    assert (run.read_metrics(), evaluation.read_followed()) == ([], [])
    for path in (run.metrics, evaluation.followed):
        path.write_text('{"step": 1, "train/loss": 0.5}\n{"step": 2, "tra')
    assert run.read_metrics() == evaluation.read_followed() == [{"step": 1, "train/loss": 0.5}]


def test_results_by_place(tmp_path):
    folder = EvaluationDir(tmp_path)
    assert folder.read_result("before/sts/demo") == {}
    path = folder.result("before/sts/demo")
    path.parent.mkdir(parents=True)
    path.write_text('{"metrics": {"spearman": 0.5}}')
    assert folder.read_results() == {"before/sts/demo": {"metrics": {"spearman": 0.5}}}
