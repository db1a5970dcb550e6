"""Which dtype is native to a device, what `auto` becomes, and what an emulated choice costs."""

import re

import pytest
import torch
from omegaconf import OmegaConf

from sempa_lightning.entry import settle_dtype
from sempa_lightning.errors import UserError
from sempa_lightning.models import dtype as of_device
from sempa_lightning.models.causal_lm import load_causal_lm, outline

CPUS = {
    "no units": "flags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n",
    "avx512": "flags\t\t: fpu avx512f avx512_bf16\n",
    "amx": "flags\t\t: fpu amx_bf16 amx_tile amx_fp16\n",
    "arm": "Features\t: fp asimd bf16 fphp\n",
}


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Let this machine have another CPU, by what Linux lists of it."""

    def have(name):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{CPUS[name]}\nprocessor\t: 1\n")
        monkeypatch.setattr(of_device, "_CPUINFO", tmp_path / "cpuinfo")
        of_device._cpu_flags.cache_clear()

    yield have
    of_device._cpu_flags.cache_clear()


def config(dtype, **trainer):
    model = {} if dtype is None else {"dtype": dtype}
    return OmegaConf.create({"model": model, "trainer": trainer})


@pytest.mark.parametrize(
    ("name", "chosen"), [("no units", "float32"), ("avx512", "bfloat16"), ("amx", "bfloat16"), ("arm", "bfloat16")]
)
def test_auto_is_what_the_cpu_computes_natively(cpu, name, chosen, capsys):
    cpu(name)
    cfg = config("auto", precision="32-true")
    settle_dtype(cfg, "cpu")
    (line,) = capsys.readouterr().out.splitlines()
    assert cfg.model.dtype == chosen
    assert line.startswith(f"model.dtype=auto: {chosen}")
    settle_dtype(cfg, "cpu")
    assert capsys.readouterr().out == ""


def test_the_first_process_alone_prints_it(cpu, capsys, monkeypatch):
    cpu("no units")
    monkeypatch.setenv("RANK", "1")
    cfg = config("auto")
    settle_dtype(cfg, "cpu")
    assert (cfg.model.dtype, capsys.readouterr().out) == ("float32", "")


def test_an_emulated_choice_names_its_measured_factor(cpu, capsys):
    cpu("no units")
    cfg = config("bfloat16", precision="16-mixed")
    settle_dtype(cfg, "cpu")
    lines = capsys.readouterr().out.splitlines()
    assert cfg.model.dtype == "bfloat16"
    for line, key, dtype in zip(lines, ("model.dtype", "trainer.precision"), ("bfloat16", "float16"), strict=True):
        assert line.startswith(f"{key}: this cpu emulates {dtype}, ")
        assert float(re.search(r"takes ([\d.]+) times", line)[1]) > 0


@pytest.mark.parametrize(("dtype", "precision"), [(None, "32-true"), ("float32", None), ("float32", "64-true")])
def test_what_any_cpu_computes_is_left_alone(cpu, dtype, precision, capsys):
    cpu("no units")
    cfg = config(dtype, precision=precision)
    settle_dtype(cfg, "cpu")
    assert capsys.readouterr().out == ""
    assert cfg.model.get("dtype") == dtype


def test_models_are_loaded_and_outlined_in_it(cpu, tmp_path, tiny_llama, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny_llama.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    for name, expected in (("no units", torch.float32), ("amx", torch.bfloat16)):
        cpu(name)
        assert load_causal_lm(str(tmp_path / "model"), dtype="auto").model.dtype == expected
        assert outline(str(tmp_path / "model"), dtype="auto").dtype == expected
    with pytest.raises(UserError, match=r"^model\.dtype=float33 .*set auto, float32"):
        load_causal_lm(str(tmp_path / "model"), dtype="float33")
