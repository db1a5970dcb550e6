"""From rows on disk to optimiser steps, through the real trainer's state."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sempa_lightning.data.negatives import Negatives
from sempa_lightning.data.preferences import PreferenceCollator, PreferenceDataModule
from sempa_lightning.data.rows import Row, RowSource
from sempa_lightning.data.sources.triplets import Triplets
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.types import PackedSequences, PreferenceBatch, TokenizedRow

WORDS = ["[UNK]", "</s>", "<pad>", "say", "again", *(f"w{number}" for number in range(200))]


class CountingTokenizer(PreTrainedTokenizerFast):
    """Counts how often it is asked."""

    calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().__call__(*args, **kwargs)


def tokenizer() -> CountingTokenizer:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return CountingTokenizer(tokenizer_object=backend, unk_token="[UNK]", eos_token="</s>", pad_token="<pad>")


def source(tmp_path: Path, name: str, records: list[dict[str, Any]]) -> Triplets:
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return Triplets(FileTable(str(file)), anchor="a", chosen="c", rejected="r")


def records(count: int) -> list[dict[str, Any]]:
    return [
        {"a": f"w{number}", "c": f"w{number} w1", "r": ["w0"] * (number % 2) + [f"w{number + 1} w2 w3"]}
        for number in range(count)
    ]


def datamodule(tmp_path: Path, *, train: int | RowSource = 10, dev: int = 3, **changes: Any) -> PreferenceDataModule:
    settings: dict[str, Any] = {
        "train": source(tmp_path, "train", records(train)) if isinstance(train, int) else train,
        "dev": source(tmp_path, "dev", records(dev)),
        "template": PromptTemplate("say {sentence} again", separator=" "),
        "tokenizer": tokenizer(),
        "max_length": 16,
        "unfit": "error",
        "group": False,
        "max_rows": None,
        "max_rejected": None,
        "negatives": Negatives(given=True, in_batch=0),
        "batch_size": 4,
        "layout": Padded(),
        "micro_batch_tokens": 48,
        "seed": 1,
        "num_workers": 0,
        "cache_dir": str(tmp_path / "cache"),
    }
    return PreferenceDataModule(**{**settings, **changes})


def ready(module: PreferenceDataModule) -> PreferenceDataModule:
    """As the trainer would have it before the first step."""
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.prepare_data()
    module.setup("fit")
    return module


def ids(words: str) -> list[int]:
    return [WORDS.index(word) for word in words.split()]


def batches(loader: Any) -> list[PreferenceBatch]:
    return [batch for step in loader for batch in step.micro_batches]


def test_batch_holds_the_row_in_tokens(tmp_path):
    module = ready(datamodule(tmp_path, train=1, dev=2))
    (batch,) = batches(module.val_dataloader())
    # The longest first.
    assert batch.candidate_mask.tolist() == [[True, True, True], [True, True, False]]
    sequences = [row[mask].tolist() for row, mask in zip(*batch.sequences[:2], strict=True)]
    assert sorted(sequences) == sorted(
        ids(words)
        for words in (
            "say w0 again w0 w1 </s>",
            "say w0 again w1 w2 w3 </s>",
            "say w1 again w1 w1 </s>",
            "say w1 again w0 </s>",
            "say w1 again w2 w2 w3 </s>",
        )
    )
    assert batch.num_chosen.tolist() == [1, 1]


def test_an_epoch_takes_every_row_once_in_steps_of_the_batch_size(tmp_path):
    loader = ready(datamodule(tmp_path)).train_dataloader()
    steps = list(loader)
    assert len(loader) == len(steps) == 3
    assert [step.size for step in steps] == [4, 4, 2]
    # Rows take up 2 or 3 times 7 tokens: no three of these steps fit into 48.
    assert [[len(batch.row_ids) for batch in step.micro_batches] for step in steps] == [[2, 2], [2, 2], [2]]
    assert all(batch.sequences.input_ids.numel() <= 48 for step in steps for batch in step.micro_batches)
    row_ids = [row_id for step in steps for batch in step.micro_batches for row_id in batch.row_ids]
    assert len(set(row_ids)) == len(row_ids) == 10


def test_order_follows_the_seed_and_the_step_and_dev_has_its_own(tmp_path):
    def order(loader: Any) -> list[str]:
        return [row_id for batch in batches(loader) for row_id in batch.row_ids]

    first, same, other = (ready(datamodule(tmp_path, seed=seed)) for seed in (1, 1, 2))
    assert order(first.train_dataloader()) == order(same.train_dataloader())
    assert order(first.train_dataloader()) != order(other.train_dataloader())
    assert order(first.val_dataloader()) == order(other.val_dataloader())


def test_second_reading_asks_no_tokenizer(tmp_path):
    first, second = datamodule(tmp_path), datamodule(tmp_path)
    ready(first)
    ready(second)
    assert first._tokenize.tokenizer.calls > 0
    assert second._tokenize.tokenizer.calls == 0
    assert torch.equal(
        batches(first.val_dataloader())[0].sequences.input_ids, batches(second.val_dataloader())[0].sequences.input_ids
    )
    assert first.counts == second.counts


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"batch_size": 2, "micro_batch_tokens": 1, "layout": Packed(64), "seed": 9, "num_workers": 1}, False),
        ({"path": "elsewhere.csv", "columns": {"anchor": "a"}}, False),
        ({"group": True}, False),
        ({"max_length": 17}, True),
        ({"template": PromptTemplate("say {sentence}", separator=" ")}, True),
        ({"template": PromptTemplate("say {sentence} again", separator="\n")}, True),
        ({"max_rows": 2}, True),
        ({"unfit": "drop"}, True),
    ],
)
def test_cache_key_holds_content_and_nothing_else(tmp_path, changes, again):
    ready(datamodule(tmp_path))
    module = datamodule(tmp_path, **changes)
    ready(module)
    assert (module._tokenize.tokenizer.calls > 0) is again


def test_cache_key_follows_the_tokenizer(tmp_path):
    ready(datamodule(tmp_path))
    changed = tokenizer()
    changed.add_tokens(["w0 w1"])
    module = datamodule(tmp_path, tokenizer=changed)
    ready(module)
    assert changed.calls > 0


def test_cache_key_follows_the_rows_and_not_their_file(tmp_path):
    ready(datamodule(tmp_path))
    (tmp_path / "moved").mkdir()
    moved = datamodule(tmp_path / "moved", cache_dir=str(tmp_path / "cache"))
    ready(moved)
    assert moved._tokenize.tokenizer.calls == 0
    more = datamodule(tmp_path, train=11)
    ready(more)
    assert more._tokenize.tokenizer.calls > 0


def test_what_tokenising_drops_is_told_again_from_the_cache(tmp_path):
    told = []
    for _ in range(2):
        module = datamodule(
            tmp_path,
            max_length=6,
            unfit="drop",
            dev=4,
            train=4,
            template=PromptTemplate("{sentence}", separator=" "),
        )
        # 1 + 4 tokens fit; one longer completion does not
        module._sources["train"] = source(
            tmp_path, "long", [*records(2), {"a": "w9", "c": "w1 w2 w3 w4 w5", "r": "w6"}]
        )
        told.append(ready(module).counts["train"])
    assert told[0] == told[1]
    assert told[0]["dropped"] == {"longer than 6 tokens": 1}
    assert (told[0]["read"], told[0]["kept"], told[0]["candidates"]) == (3, 2, {"2": 1, "3": 1})


def test_counts_of_both_parts_go_into_json(tmp_path):
    module = datamodule(tmp_path, path="rows.csv", columns={"anchor": "a"})
    assert module.counts == {"path": "rows.csv", "columns": {"anchor": "a"}}
    counts = json.loads(json.dumps(ready(module).counts))
    assert (counts["train"]["kept"], counts["dev"]["kept"]) == (10, 3)
    assert counts["dev"]["candidates"] == {"2": 2, "3": 1}
    assert counts["train"]["fingerprint"] != counts["dev"]["fingerprint"]


def test_unfit_rows_stop_a_strict_run(tmp_path):
    with pytest.raises(UserError, match="longer than 5 tokens"):
        ready(datamodule(tmp_path, max_length=5))
    assert not list((tmp_path / "cache" / "preferences").iterdir())


class Growing:
    """A file to which a row is added after each pass."""

    missing = None

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        self.rows.append(Row(f"w{len(self.rows)}", ("w1",), ("w2",)))
        yield from self.rows


def test_data_that_change_while_they_are_read_leave_nothing_in_the_cache(tmp_path):
    with pytest.raises(UserError, match="the data changed while they were read"):
        ready(datamodule(tmp_path, train=Growing()))
    assert not list((tmp_path / "cache" / "preferences").iterdir())


def test_no_row_left_after_tokenising(tmp_path):
    with pytest.raises(UserError, match=r"no row is left after tokenising: 10 rows read, 0 kept.*longer than 2"):
        ready(datamodule(tmp_path, max_length=2, unfit="drop"))


def test_missing_file(tmp_path):
    module = datamodule(tmp_path)
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(UserError, match=r"no file .*dev\.jsonl"):
        module.prepare_data()


@pytest.mark.parametrize(
    ("layout", "length", "input_ids"),
    [
        (Padded(), 15, [[1, 2, 3, 4, 9], [1, 2, 3, 4, 5], [1, 2, 3, 4, 9]]),
        (Packed(64), 4, [[1, 2, 3, 4]]),  # the last token of each candidate is not there
    ],
    ids=["padded", "packed"],
)
def test_collator_counts_anchors_and_tokens_of_the_layout(layout, length, input_ids):
    row = TokenizedRow("id", [1, 2, 3], [[4], [4, 5], [4]], 1)
    collate = PreferenceCollator(layout, pad_token_id=9)
    assert (collate.size(row), collate.num_tokens([row])) == (1, length)
    assert collate([row]).sequences.input_ids.tolist() == input_ids


def test_the_layout_lays_out_every_batch(tmp_path):
    module = ready(datamodule(tmp_path, layout=Packed(1)))
    found = batches(module.train_dataloader()) + batches(module.val_dataloader())
    assert all(isinstance(batch.sequences, PackedSequences) for batch in found)
    assert all(len(batch.sequences.input_ids) == len(batch.rows) for batch in found)


def test_the_manifest_tells_what_steps_are_made_of(tmp_path):
    """Steps of 4, 4 and 2 rows; even ones bring one rejected, odd ones two. Two others have at most one to give."""
    module = ready(datamodule(tmp_path, negatives=Negatives(given=True, in_batch=2)))
    found = json.loads(json.dumps(module.counts))["train"]["as_trained"]
    rows = [row for step in module.train_dataloader() for batch in step.micro_batches for row in batch.rows]
    assert found["rows"] == len(rows) == 10
    assert found["candidates"] == {
        str(size): sum(len(row.completion_ids) == size for row in rows)
        for size in sorted({len(row.completion_ids) for row in rows})
    }
    assert found["given"] == {"1": 5, "2": 5}
    assert found["in_batch"] == {"1": 2, "2": 8}
    assert len(found["examples"]) == 3
    for example in found["examples"]:
        (number,) = {int(text.split()[0][1:]) for text in example["chosen"]}
        assert example["prompt"] == f"say w{number} again"
        assert example["chosen"] == [f"w{number} w1"]
        assert example["given"] == ["w0"] * (number % 2) + [f"w{number + 1} w2 w3"]
        assert all(text.endswith(" w1") and text not in example["chosen"] for text in example["in_batch"])
    assert str(module).splitlines()[-1] == "as trained, the first 10 rows: " + ", ".join(
        f"K={size}: {number}" for size, number in found["candidates"].items()
    )
    assert len(str(ready(datamodule(tmp_path))).splitlines()) == 2


def test_rows_need_no_rejected_where_none_is_taken(tmp_path):
    strict, module = datamodule(tmp_path), datamodule(tmp_path, negatives=Negatives(given=False, in_batch=1))
    pairs = [{"a": "w1", "c": "w2", "r": []}, {"a": "w3", "c": "w4", "r": "w4"}]
    strict._sources["train"] = module._sources["train"] = source(tmp_path, "pairs", pairs)
    with pytest.raises(UserError, match="no usable row"):
        ready(strict)
    (step,) = ready(module).train_dataloader()
    assert sorted(row.completion_ids for batch in step.micro_batches for row in batch.rows) == [
        [ids("w2 </s>"), ids("w4 </s>")],
        [ids("w4 </s>"), ids("w2 </s>")],
    ]


@pytest.mark.parametrize(("batch_size", "train", "dev"), [(3, 10, 3), (2, 10, 3), (1, 2, 2)])
def test_a_step_of_one_row_is_refused_before_training_where_others_are_needed(tmp_path, batch_size, train, dev):
    sizes = {"batch_size": batch_size, "train": train, "dev": dev}
    with pytest.raises(UserError, match=rf"has a single one.*set data.batch_size to another number than {batch_size}"):
        ready(datamodule(tmp_path, **sizes, negatives=Negatives(given=False, in_batch=1)))
    for negatives in (Negatives(given=True, in_batch=1), Negatives(given=False, in_batch=0)):
        assert ready(datamodule(tmp_path, **sizes, negatives=negatives)).counts["train"]["kept"] == train


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("key", ["batch_size", "micro_batch_tokens"])
def test_sizes_are_above_zero(tmp_path, key, size):
    with pytest.raises(UserError, match=rf"data\.{key}={size} is not a whole number above 0"):
        datamodule(tmp_path, **{key: size})


def test_a_chat_template_that_merges_prompt_and_reply_is_named_as_the_cause(tmp_path):
    """As Qwen3.5's: a prompt ends with a line break, and a reply begins with another one."""
    chat = tokenizer()
    chat.chat_template = (
        "{% for m in messages %}{{ 'w77 ' if m.role == 'assistant' }}{{ m.content + ' ' }}{% endfor %}"
        "{{ 'w7' if add_generation_prompt }}"
    )
    module = datamodule(tmp_path, template=PromptTemplate("say {sentence}", chat=True), tokenizer=chat, unfit="drop")
    with pytest.raises(UserError, match=r"10 rows read, 0 kept.*chat template.*prompt\.chat=false"):
        module.setup("fit")


def test_pairs_that_are_alone_in_their_step_are_refused(tmp_path):
    """Without a rejected candidate, and with nothing else in the step, their contrastive loss would be 0."""
    pairs = Triplets(FileTable(str(tmp_path / "pairs.jsonl")), anchor="a", chosen="c", rejected="r")
    lines = [{"a": f"w{number}", "c": f"w{number} w1", "r": ["w5"] if number else None} for number in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"^data\.batch_size=1: 1 train rows .*data\.need_rejected=true"):
        datamodule(tmp_path, train=pairs, batch_size=1, need_rejected=False).setup("fit")
    datamodule(tmp_path, train=pairs, batch_size=1).setup("fit")
    datamodule(tmp_path, train=pairs, batch_size=2, need_rejected=False).setup("fit")
