"""What a run or an evaluation finds damaged in the cache is built again, and changes no number."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sempa_lightning.artifacts import EvaluationDir, RunDir
from sempa_lightning.entry import conf_dir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.subjects import read_checkpoint

ADAPTER = "adapter_model.safetensors"


def flip(path, place):
    """Change one bit, at a share of the file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 16
    path.write_bytes(content)


@pytest.fixture
def damage(tmp_path):
    """Damage each file of the cache that a pattern matches."""

    def call(pattern, harm):
        paths = sorted((tmp_path / "cache").glob(pattern))
        assert paths
        for path in paths:
            harm(path)
        return paths

    return call


@pytest.fixture
def words(tiny_arguments, unmeasured, tmp_path):
    fewer = ["~callbacks.probe", "~callbacks.best", "samples.sentences=[]", "trainer.max_steps=2"]
    return [*tiny_arguments, *unmeasured, *fewer, f"paths.cache_dir={tmp_path}/cache"]


def test_a_damaged_cache_trains_the_same_adapter(here, words, damage, tmp_path):
    def trained(name):
        done = here(*words, f"hydra.run.dir={tmp_path}/{name}")
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if "checksum missing or wrong" in line]
        return (RunDir(tmp_path / name).adapter / ADAPTER).read_bytes(), lines

    expected, lines = trained("whole")
    assert not lines
    (rows, counts) = sorted((tmp_path / "cache" / "preferences").iterdir())
    flip(rows / "rows.arrow", 0.6)
    (counts / "counts.json").write_text("{")
    (logps,) = damage("reference/*/*/*.logps2", lambda path: flip(path, 0.5))
    (name,) = damage("reference/hashes/*", lambda path: path.write_bytes(b""))
    adapter, lines = trained("damaged")
    assert adapter == expected
    assert sorted(line.partition(": ")[0] for line in lines) == sorted(map(str, (rows, counts, logps, name)))


def test_a_damaged_cache_gives_the_same_scores(evaluate_here, tiny_base, tiny_arguments, damage, tmp_path):
    pairs = next(word for word in tiny_arguments if word.startswith("eval.sts.demo.pairs.path="))

    others = OmegaConf.load(Path(conf_dir()) / "eval" / "sts.yaml").sts.keys() - {"demo"}

    def measured(name):
        done = evaluate_here(
            f"model.path={tiny_base}", "eval=[sts]", pairs, *(f"~eval.sts.{name}" for name in others), "device=cpu",
            f"paths.cache_dir={tmp_path}/cache", f"hydra.run.dir={tmp_path}/{name}",
        )  # fmt: skip
        assert done.returncode in (0, 4), done.stderr
        summary = EvaluationDir(tmp_path / name).read_summary()
        return summary["before/sts/demo/spearman"], done.stderr.count("embedding its texts again")

    expected, lines = measured("whole")
    assert not lines
    paths = damage("embeddings/*/*.safetensors", lambda path: flip(path, 0.9))
    assert measured("flipped") == (expected, len(paths))
    assert measured("again") == (expected, 0)


def test_a_damaged_checkpoint_is_named(here, words, tmp_path):
    done = here(*words, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    path = RunDir(tmp_path / "run").last_checkpoint
    assert read_checkpoint(path)["global_step"] == 2
    flip(path, 0.5)
    with pytest.raises(UserError, match=r"last\.ckpt"):
        read_checkpoint(path)
