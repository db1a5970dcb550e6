import pytest
import torch

from sempa_lightning.training.checkpoints import is_whole


@pytest.fixture
def content(tmp_path):
    path = tmp_path / "whole.ckpt"
    torch.save({"state_dict": {"weight": torch.randn(100, 100)}, "global_step": 3}, path)
    assert is_whole(path)
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
