"""Sentences from files of every kind, and files that give none."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.synthesis.sentences import read_sentences, sentence_table

TEXTS = [" A cat sleeps. ", "", "A dog barks.", "A cat sleeps.", "A bell\x07 rings.", "A bird sings."]
DISTINCT = ["A cat sleeps.", "A dog barks.", "A bird sings."]


def read(path, column="text", limit=None):
    return read_sentences(sentence_table(str(path), "train", None), column, limit)


def written(folder, suffix):
    path = folder / f"sentences{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"n": range(6), "text": TEXTS}), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"n": 0, "text": text}) + "\n" for text in TEXTS))
    else:
        separator = "\t" if suffix == ".tsv" else ","
        path.write_text(f"n{separator}text\n" + "".join(f"0{separator}{text}\n" for text in TEXTS))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_a_column_of_a_table(tmp_path, suffix):
    sentences = read(written(tmp_path, suffix))
    assert sentences.texts == DISTINCT
    assert (sentences.read, sentences.left_out) == (6, {"empty": 1, "repeated": 1, "has control characters": 1})
    about = sentences.as_dict()
    assert (about["texts"], about["source"]) == (3, str(tmp_path / f"sentences{suffix}"))


def test_lines_of_a_text_file(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_bytes("\ufeffA cat sleeps.\r\n\r\nA dog barks.\n  \nA cat sleeps.\nA bird sings.".encode())
    sentences = read(path)
    assert sentences.texts == DISTINCT
    assert (sentences.read, sentences.left_out) == (4, {"repeated": 1})


def test_the_first_are_taken(tmp_path):
    path = written(tmp_path, ".jsonl")
    assert read(path, limit=2).texts == DISTINCT[:2]
    assert read(path, limit=9).texts == DISTINCT
    assert len({read(path, limit=limit).fingerprint for limit in (2, 3, None)}) == 2


@pytest.mark.parametrize(
    ("name", "content", "column", "complaint"),
    [
        ("gone.txt", None, "text", "sentences: no file {path}. Name a"),
        ("folder.txt", "folder", "text", "sentences: {path} is a folder, not a file"),
        ("empty.txt", "", "text", "{path} is empty: it holds no record"),
        ("blank.txt", " \n\n", "text", "{path} is empty: it holds no record"),
        ("kind.pdf", "x", "text", "{path}: unknown kind of file; give one of .csv, .tsv, .jsonl, .parquet, .txt"),
        ("column.csv", "sent0,sent1\na,b\n", "text", "{path}, record 1 has no column 'text'; it has 'sent0', 'sent1'"),
        ("number.jsonl", '{{"text": "a"}}\n{{"text": 3}}\n', "text", "{path}, record 2: 'text' is int, not text"),
        ("useless.csv", "text,n\n,0\nnan,1\n", "text", "{path} holds no sentence in column 'text': 2 records"),
    ],
)
def test_a_file_that_gives_none(tmp_path, name, content, column, complaint):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content.replace("{{", "{").replace("}}", "}"))
    with pytest.raises(UserError, match=re.escape(complaint.format(path=path))):
        read(path, column)


def test_anything_else_is_a_data_set_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"cannot read sempa-lightning/none from the Hub: .*give its path"):
        read("sempa-lightning/none")
    with pytest.raises(UserError, match=r"cannot read sempa-lightning/none-v1\.0 from the Hub: "):
        read("sempa-lightning/none-v1.0")
    (tmp_path / "none.txt").write_text("A cat.\n")
    assert read("none.txt").texts == ["A cat."]


def test_some_source_must_be_named():
    with pytest.raises(UserError, match="which sentences"):
        sentence_table(None, "train", None)
