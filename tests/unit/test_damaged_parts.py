"""Damaged files of what a resumed command takes as done: each is done again, with a line, or says what it said."""

import copy
import random

import pyarrow.parquet as pq
import pytest
import torch

from sempa_lightning.artifacts import EmbeddingDir, EvaluationDir, SynthesisDir
from sempa_lightning.data.scored_pairs import JsonlPairs
from sempa_lightning.embedding.corpus import Survey
from sempa_lightning.embedding.parts import About, write_part
from sempa_lightning.embedding.parts import Parts as EmbeddingParts
from sempa_lightning.embedding.shard import Shard
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.queue import Queue
from sempa_lightning.evaluation.results import read_measurement, write_result
from sempa_lightning.evaluation.sts import Sts
from sempa_lightning.evaluation.task import Measurement
from sempa_lightning.models.adapters import Lora, SavedAdapter
from sempa_lightning.synthesis.draft import Draft, read_drafts
from sempa_lightning.synthesis.parts import Parts as SynthesisParts

TRIES = 100
PLACE = "before/sts/demo"


class Embedding:
    """The second part of a corpus."""

    def __init__(self, folder):
        self.parts = EmbeddingParts(EmbeddingDir(folder), Survey(25, "c"), 10, Shard(0, 1))
        self.files = [self.parts.folder.part(1)]

    def write(self):
        vectors = torch.linspace(-1, 1, 40).reshape(10, 4)
        texts = [f"line {row}\u2028\0{{}}" for row in range(10)]
        write_part(self.files[0], range(10, 20), texts, vectors, About("c", "w", 4, 1))

    def resume(self):
        self.parts.remove_damaged()
        return 1 not in self.parts.rest

    def read(self):
        table = pq.read_table(self.files[0])
        return table.to_pydict(), table.schema.types, self.parts.read([1], "w")


class Synthesis:
    """The second part of the sentences."""

    def __init__(self, folder):
        self.parts = SynthesisParts(SynthesisDir(folder), ["a"] * 25, 10)
        self.files = [self.parts.folder.part(1)]

    def write(self):
        self.parts.write(1, [Draft("a", "echo", row, f"b\u2028 {row}", row > 3, 0.5) for row in range(10)])

    def resume(self):
        self.parts.remove_damaged()
        return 1 not in self.parts.missing

    def read(self):
        return read_drafts(self.files[0])


class Evaluation:
    """The only task of an evaluation."""

    def __init__(self, folder):
        self.folder = EvaluationDir(folder)
        self.queue = Queue(self.folder, {"sts/demo": Sts(JsonlPairs("pairs.jsonl"))}, ["before"], 0)
        self.files = [self.folder.result(PLACE), self.folder.items(PLACE)]

    def write(self):
        measured = Measurement({"cosine": torch.linspace(0, 1, 20)}, {"texts": ["ü", 1.5, float("nan")]})
        write_result(self.folder, PLACE, measured, {"spearman": 0.625}, 1.0)

    def resume(self):
        self.queue.retry()
        return not self.queue.rest

    def read(self):
        items, notes = read_measurement(self.folder, PLACE)
        return (
            {name: values.tolist() for name, values in items.items()},
            str(notes),
            self.folder.read_result(PLACE)["metrics"],
        )


def harmed(content, chance):
    """What a failing disk makes of a file."""
    place, length = chance.randrange(len(content)), chance.randrange(1, 64)
    block = chance.choice([bytes, chance.randbytes])(length)
    return chance.choice(
        [
            content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :],
            content[:place] + block + content[place + length :],
            content[:place],
            b"",
        ]
    )


@pytest.mark.parametrize("kind", [Embedding, Synthesis, Evaluation])
def test_what_counts_as_done_is_as_it_was_written(kind, tmp_path, capsys):
    work, kept = kind(tmp_path), 0
    work.write()
    assert work.resume()
    expected, contents = work.read(), {path: path.read_bytes() for path in work.files}
    assert capsys.readouterr().err == ""
    for attempt in range(TRIES):
        chance = random.Random(attempt)
        for path, content in contents.items():
            path.write_bytes(content)
        path = chance.choice(work.files)
        path.write_bytes(harmed(contents[path], chance))
        if work.resume():
            kept += 1
            assert work.read() == expected, (attempt, path)
        else:
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"{work.files[0]}: checksum missing or wrong, ")
    assert kept < TRIES / 4, "bytes without a meaning are few"


def test_missing_items_are_measured_again(tmp_path, capsys):
    work = Evaluation(tmp_path)
    work.write()
    work.files[1].unlink()
    assert not work.resume()
    assert f"measuring {PLACE} again" in capsys.readouterr().err


def test_files_of_earlier_versions_count_as_done(tmp_path):
    """They have no checksums."""
    work = Embedding(tmp_path / "embedding")
    work.write()
    table = pq.read_table(work.files[0])
    pq.write_table(
        table.replace_schema_metadata({"sempa_lightning": '{"corpus":"c","weights":"w","width":4,"truncated":1}'}),
        work.files[0],
    )
    assert work.resume()
    assert work.read()[2] == [About("c", "w", 4, 1)]
    work = Synthesis(tmp_path / "synthesis")
    work.write()
    lines = work.files[0].read_text().split("\n")
    work.files[0].write_text("\n".join(lines[1:]))
    assert work.resume()
    assert len(work.read()) == 10
    work = Evaluation(tmp_path / "evaluation")
    work.write()
    work.files[0].write_text('{"metrics": {"spearman": 0.5}, "notes": {}, "seconds": 1.0}')
    assert work.resume()
    assert work.read()[2] == {"spearman": 0.5}


def test_a_torn_adapter_is_named(tiny_llama, tmp_path):
    Lora(2, 4, 0.0, "all-linear").attach(copy.deepcopy(tiny_llama)).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is damaged"):
        SavedAdapter(str(tmp_path)).attach(tiny_llama)
