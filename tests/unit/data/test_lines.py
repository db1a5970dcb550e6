"""Files in the encodings and compressions that come."""

import gzip
import json
import lzma

import pytest

from sempa_lightning.data.scored_pairs import JsonlPairs, SemEvalFolder, SickFile, StsBenchmarkFile
from sempa_lightning.data.table import FileTable, named_table
from sempa_lightning.errors import UserError

RECORDS = [{"a": "Zo\u00eb"}, {"a": "line\nbreak"}]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
PAIR = {"sentence1": "A cat.", "sentence2": "A dog.", "score": 2}
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", BOM + LINES.replace("\n", "\r\n").encode()),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.jsonl.xz", lzma.compress(BOM + LINES.encode())),
        ("a.json", json.dumps(RECORDS, indent=1).encode()),
        ("a.json.gz", gzip.compress(BOM + json.dumps(RECORDS).encode(), mtime=0)),
        ("a.csv.gz", gzip.compress('a\n"Zo\u00eb"\n"line\nbreak"\n'.encode(), mtime=0)),
    ],
)
def test_the_same_records_in_any_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert list(FileTable(str(tmp_path / name))) == RECORDS


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", LINES.encode() + b'{"a": "caf\xe9"}\n', "line 3: not UTF-8 text (invalid continuation byte)"),
        ("a.jsonl", LINES.encode("utf-16"), "line 1: not UTF-8 text (invalid start byte); convert it to UTF-8"),
        ("a.jsonl", LINES.encode("utf-16-le"), "line 1: not UTF-8 text"),
        ("a.jsonl", LINES.replace("o", "\0").encode(), "line 1: binary data, not text"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-9], "damaged .gz file (Compressed file ended"),
        ("a.jsonl.gz", LINES.encode(), "after line 0: damaged .gz file"),
        ("a.json", b'{"a": 1}', "a dict instead of a list of JSON objects"),
        ("a.json", b'[{"a": 1}, 2]', "record 2: a int instead of a JSON object"),
        ("a.json", b"[" * 100_000, "JSON is nested too deeply"),
    ],
)
def test_damaged_files_name_their_line(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(FileTable(str(tmp_path / name)))
    assert str(error.value).startswith(str(tmp_path / name))
    assert expected in str(error.value)


def test_several_files_are_refused_by_their_key():
    with pytest.raises(UserError, match=r"data.path: expected the name of one file, found \['a.csv', 'b.csv'\]"):
        FileTable(["a.csv", "b.csv"])
    with pytest.raises(UserError, match="corpus: expected the name of one file, found 3"):
        named_table("corpus", 3, "train", None)


def test_own_pairs_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(BOM + json.dumps(PAIR).encode() + b"\r\n\r\n")
    assert [tuple(pair) for pair in JsonlPairs(str(tmp_path / "a.jsonl"))] == [("A cat.", "A dog.", 2.0, "")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"score": float("nan")}, "'score' is nan, not a finite number"),
        ({"score": float("-inf")}, "'score' is -inf, not a finite number"),
        ({"score": 10**400}, "'score' is inf, not a finite number"),
        ({"score": True}, "'score' is True, not a number"),
        ({"score": "4"}, "'score' is '4', not a number"),
        ({"score": None}, "'score' is None, not a number"),
        ({"score": [[4]]}, "'score' is list, not a number"),
        ({"score": ...}, "no column 'score'; it has 'sentence1', 'sentence2'"),
        ({"sentence1": ...}, "no column 'sentence1'; it has 'sentence2', 'score'"),
        ({"sentence2": None}, "'sentence2' is NoneType, not text"),
    ],
)
def test_own_pairs_name_file_line_and_column(tmp_path, change, expected):
    record = {key: value for key, value in (PAIR | change).items() if value is not ...}
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(PAIR)}\n\n{json.dumps(record)}\n")
    with pytest.raises(UserError) as error:
        list(JsonlPairs(str(path)))
    assert str(error.value).startswith(f"{path}, line 3")
    assert expected in str(error.value)


@pytest.mark.parametrize("score", ["nan", "inf", "four", ""])
@pytest.mark.parametrize("kind", [StsBenchmarkFile, SickFile, SemEvalFolder])
def test_published_files_name_the_line_of_a_score_that_is_none(tmp_path, kind, score):
    path = tmp_path / "pairs.txt"
    if kind is StsBenchmarkFile:
        path.write_text(f"a\tb\tc\td\t1.5\tA cat.\tA dog.\n\na\tb\tc\td\t{score}\tA cat.\tA dog.\n")
    elif kind is SickFile:
        path.write_text(f"sentence_A\tsentence_B\trelatedness_score\nA cat.\tA dog.\t1.5\nA cat.\tA dog.\t{score}\n")
    else:
        (tmp_path / "STS.input.a.txt").write_text("A cat.\tA dog.\n\nA cat.\tA dog.\n")
        path = tmp_path / "STS.gs.a.txt"
        path.write_text(f"1.5\n\n{score}\n")
        if not score:
            assert len(list(kind(str(tmp_path)))) == 1, "without a score a pair is left out, as published"
            return
    with pytest.raises(UserError) as error:
        list(kind(str(tmp_path if kind is SemEvalFolder else path)))
    assert str(error.value).startswith(f"{path}, line 3: the score is ")


def test_published_files_of_another_form_are_named(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("A cat.\tA dog.\t3\n")
    for kind, expected in (
        (StsBenchmarkFile, "line 1: 3 columns parted by tabs, expected 7"),
        (SickFile, "line 1: no column 'sentence_A'; expected sentence_A, sentence_B, relatedness_score"),
    ):
        with pytest.raises(UserError, match=expected):
            list(kind(str(path)))
    (tmp_path / "STS.input.a.txt").write_text("A cat. A dog.\n")
    (tmp_path / "STS.gs.a.txt").write_text("3\n")
    with pytest.raises(UserError, match=r"STS.input.a.txt, line 1: 1 columns parted by tabs, expected 2"):
        list(SemEvalFolder(str(tmp_path)))
