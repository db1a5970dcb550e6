"""Tokenised data on disk: found again by content, whole or not at all."""

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Any

import datasets
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sempa_lightning.data.cache import cached, content_hash, tokenizer_content

FEATURES = datasets.Features({"number": datasets.Value("int32")})


def test_hash_knows_where_parts_end():
    assert content_hash("ab", "c") != content_hash("a", "bc") != content_hash("abc")
    assert content_hash("a", "") != content_hash("a")
    assert content_hash("a") == content_hash(b"a")
    assert len(content_hash("\ud83d")) == 32


def test_rows_and_counts_survive(tmp_path):
    made = []

    def rows(counts: Counter[str]) -> Iterator[dict[str, Any]]:
        made.append("once")
        for number in range(4):
            counts["odd" if number % 2 else "even"] += 1
            yield {"number": number}

    for _ in range(2):
        dataset, counts = cached(tmp_path, "key", rows, FEATURES)
        assert list(dataset["number"]) == [0, 1, 2, 3]
        assert counts == {"even": 2, "odd": 2}
    assert made == ["once"]
    cached(tmp_path, "other", rows, FEATURES)
    assert made == ["once", "once"]


def test_an_error_leaves_nothing_behind(tmp_path):
    def rows(counts: Counter[str]) -> Iterator[dict[str, Any]]:
        counts["read"] += 1
        yield {"number": 1}
        raise ValueError("broken row")

    with pytest.raises(ValueError, match="broken row"):
        cached(tmp_path, "key", rows, FEATURES)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_named_and_nothing_is_left_behind(tmp_path):
    """A limit on the size of files stands for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told:
            cached(tmp_path, "key", lambda _: ({"number": number} for number in range(10_000)), FEATURES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.value.filename == str(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_killed_leaves_no_half_data(tmp_path):
    (tmp_path / ".key.99999").mkdir()
    (tmp_path / ".key.99999" / "rows.arrow").write_bytes(b"half")
    dataset, _ = cached(tmp_path, "key", lambda _: iter([{"number": 7}]), FEATURES)
    assert dataset[0] == {"number": 7}


def test_a_race_that_another_process_wins_reads_the_winner(tmp_path):
    def rows(_: Counter[str]) -> Iterator[dict[str, Any]]:
        yield {"number": 1}
        if not (tmp_path / "key").is_dir():  # meanwhile, another process finishes the same data
            cached(tmp_path / "elsewhere", "key", lambda _: iter([{"number": 1}]), FEATURES)
            (tmp_path / "elsewhere" / "key").rename(tmp_path / "key")

    dataset, _ = cached(tmp_path, "key", rows, FEATURES)
    assert list(dataset["number"]) == [1]
    assert not list(tmp_path.glob(".key.*"))


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "</s>": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", **{"eos_token": "</s>", "pad_token": "</s>", **special}
    )


def test_tokenizer_content_ignores_what_the_last_call_left_behind():
    one, other = tokenizer(), tokenizer()
    before = tokenizer_content(one)
    one(["a", "a b"], padding=True, truncation=True, max_length=1)
    assert tokenizer_content(one) == tokenizer_content(other) == before


def test_tokenizer_content_follows_template_and_special_tokens():
    plain, chat = tokenizer(), tokenizer()
    chat.chat_template = "{{ messages }}"
    contents = {tokenizer_content(one) for one in (plain, chat, tokenizer(eos_token="b"))}
    assert len(contents) == 3
