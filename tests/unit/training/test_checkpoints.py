import random
import subprocess

import pytest
import torch

from sempa_lightning.checksums import is_whole_zip as is_whole
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.subjects import read_checkpoint
from sempa_lightning.training.checkpoints import AtomicCheckpointIO


@pytest.fixture(params=["signed", "of an earlier version"])
def content(tmp_path, request):
    path = tmp_path / "whole.ckpt"
    checkpoint = {"state_dict": {"weight": torch.randn(100, 100)}, "global_step": 3}
    if request.param == "signed":
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    else:
        torch.save(checkpoint, path)
    assert is_whole(path)
    assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["weight"], checkpoint["state_dict"]["weight"])
    return path.read_bytes()


@pytest.mark.parametrize(
    "harm",
    [
        lambda _: b"",
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: bytes(len(content)),
        lambda content: content[:20_000] + bytes([content[20_000] ^ 1]) + content[20_001:],
        lambda content: content[:20_000] + bytes(4096) + content[24_096:],
    ],
    ids=["empty", "beginning", "last byte missing", "zeros", "one bit", "block of zeros"],
)
def test_damage_is_seen(content, tmp_path, harm):
    path = tmp_path / "harmed.ckpt"
    path.write_bytes(harm(content))
    assert not is_whole(path)


def test_what_is_not_there_is_not_whole(tmp_path):
    assert not is_whole(tmp_path / "none.ckpt")


def test_any_byte_of_a_checkpoint_counts(tmp_path):
    path, chance = tmp_path / "last.ckpt", random.Random(0)
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"weight": torch.ones(20)}, "global_step": 3}, path)
    content = path.read_bytes()
    for place in [*range(-1200, 0, 7), *(chance.randrange(len(content)) for _ in range(100))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        assert not is_whole(path), place


class Harm:
    """Unpickled, it writes the canary."""

    def __init__(self, canary):
        self._canary = canary

    def __reduce__(self):
        return subprocess.call, (["touch", str(self._canary)],)


@pytest.mark.parametrize("read", [read_checkpoint, AtomicCheckpointIO().load_checkpoint])
@pytest.mark.parametrize("content", ["objects", "text", "a list"])
def test_a_checkpoint_that_holds_objects_is_one_line(tmp_path, read, content):
    path, canary = tmp_path / "last.ckpt", tmp_path / "it_ran"
    if content == "text":
        path.write_text("no checkpoint")
    else:
        torch.save({"state_dict": Harm(canary)} if content == "objects" else [1], path)
    with pytest.raises(UserError, match=r"^.*last\.ckpt ") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert not canary.exists()
