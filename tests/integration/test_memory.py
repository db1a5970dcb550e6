"""A step that does not fit into memory is done again in smaller pieces, with the same result."""

from pathlib import Path

import pytest

LITTLE = "+callbacks.memory={{_target_: small_memory.SmallMemory, tokens: {tokens}, rank: {rank}}}"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let configs name what lies beside this file."""
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.mark.parametrize("objective", ["preference", "joint"])
def test_smaller_micro_batches(train, here, tiny_arguments, every_step, unmeasured, steps, tmp_path, objective):
    from sempa_lightning.artifacts import RunDir

    words = [*every_step, *unmeasured, f"objective={objective}", "data.max_rows=16", "++model.dtype=float64"]
    small = steps(train(tmp_path / "small", *words, "data.micro_batch_tokens=800"))
    done = here(
        *tiny_arguments, f"hydra.run.dir={tmp_path}/large", *words, LITTLE.format(tokens=800, rank=0),
        "data.micro_batch_tokens=4096",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "out of memory at step 0: micro-batches are 1/2 of data.micro_batch_tokens from here on" in done.stdout
    small.assert_equal(steps(RunDir(tmp_path / "large")), tolerance=1e-6)


def test_processes_agree(train, pair, every_step, unmeasured, steps, tmp_path):
    """It happens to the second alone, and there in the passes before those with gradients, too."""
    words = [*every_step, *unmeasured, "objective=joint", "loss=bco", "data.max_rows=16", "++model.dtype=float64"]
    alone = steps(train(tmp_path / "alone", *words))
    ddp = ["trainer=ddp", "trainer.precision=32-true"]
    little = [LITTLE.format(tokens=800, rank=1), "data.micro_batch_tokens=4096"]
    alone.assert_equal(steps(pair(tmp_path / "two", *words, *ddp, *little)), tolerance=1e-6)


def test_what_cannot_be_cut_is_told(here, tiny_arguments, tmp_path):
    done = here(*tiny_arguments, f"hydra.run.dir={tmp_path}", LITTLE.format(tokens=5, rank=0))
    assert done.returncode == 1
    assert done.stderr.startswith("error: out of memory at step 0 with a single row in a micro-batch: set")
    assert done.stderr.count("\n") == 1
