import errno
import resource

import pytest
import torch

from sempa_lightning.artifacts import EvaluationDir, RunDir, naming


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


@pytest.mark.parametrize("write", ["weights", "tokenizer"])
def test_no_room_is_an_error_of_the_system_to_every_writer(tmp_path, tiny_tokenizer, write):
    """Those of safetensors and of tokenizers have exceptions of their own; a limit on files stands for a full disk."""
    from safetensors.torch import save_file

    limits, path = resource.getrlimit(resource.RLIMIT_FSIZE), str(tmp_path / "file")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told, naming(tmp_path / "adapter"):
            if write == "weights":
                save_file({"a": torch.zeros(1000)}, path)
            else:
                tiny_tokenizer.backend_tokenizer.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (told.value.errno, told.value.filename) == (errno.EFBIG, str(tmp_path / "adapter"))
