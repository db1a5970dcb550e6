import errno
import json
import math
import resource

import pytest
import torch

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.files import cut_unfinished, naming, read_lines, read_object, with_nonfinite, write_json
from sempa_lightning.training.jsonl_logger import JsonlLogger, cut_back


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


def test_json_is_strict_and_numbers_come_back(tmp_path):
    """JSON has no NaN: other readers refuse a bare one."""
    numbers = {"a": 1.5, "nan": math.nan, "up": math.inf, "down": -math.inf, "none": None, "text": "a"}
    write_json(tmp_path / "a.json", numbers | {"inner": [(math.nan, 1), {"b": math.inf}]})

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert found["inner"] == [["NaN", 1], {"b": "Infinity"}]
    back = with_nonfinite(found)
    assert math.isnan(back.pop("nan"))
    assert {key: back[key] for key in back if key != "inner"} == {k: v for k, v in numbers.items() if k != "nan"}


def test_a_summary_keeps_what_is_infinite(tmp_path):
    run = RunDir(tmp_path)
    write_json(run.summary, {"train/best": -math.inf, "train/steps": 3.0})
    assert run.read_summary() == {"train/best": -math.inf, "train/steps": 3.0}
    JsonlLogger(str(run.metrics)).log_metrics({"train/grad_norm": math.inf}, step=2)
    assert run.read_metrics() == [{"step": 2, "train/grad_norm": math.inf}]
    run.summary.write_text('{"a": NaN, "b": -Infinity}')
    assert run.read_summary()["b"] == -math.inf, "as folders of earlier versions have it"


def test_json_that_is_nested_too_deeply_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(UserError, match=r"a\.json is no JSON"):
        read_object(tmp_path / "a.json")


LINES = b'{"step": 0, "loss": 2.5}\n{"step": 1, "loss": 1.5}\n{"step": 2, "loss": 0.5}\n'


@pytest.mark.parametrize("torn", [b"", b'{"step": 3, "lo', b"\0" * 40, b"\xff"])
def test_a_last_line_without_an_end_is_left_out(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + torn)
    assert [line["step"] for line in read_lines(path)] == [0, 1, 2]
    cut_unfinished(path)
    assert path.read_bytes() == LINES


@pytest.mark.parametrize("line", [b'{"step": 1, "lo', b"\xff", b"", b"[1]", b"[" * 100_000, b'{"step": 1}{"step": 2}'])
def test_any_other_damaged_line_is_named(tmp_path, line):
    first, _, third = LINES.splitlines(keepends=True)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(first + line + b"\n" + third)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: not a JSON object"):
        read_lines(path)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: not a JSON object"):
        cut_back(path, 3)


def test_damage_after_the_checkpoint_is_cut_off(tmp_path):
    """A power cut leaves what was not flushed, which a checkpoint needs none of."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + b'\0\0\n{"step": null, "seconds": 3}\n{"step": 7}\n{"st')
    cut_back(path, 2)
    assert path.read_bytes() == b"".join(LINES.splitlines(keepends=True)[:2])
