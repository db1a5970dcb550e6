"""Texts out of tables of any kind, and what one reading of them tells."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sempa_lightning.data.table import FileTable
from sempa_lightning.embedding.corpus import Corpus
from sempa_lightning.errors import UserError

TEXTS = ["A cat sleeps.", "", "Zoë paid 3 €.", "A cat sleeps."]


def corpus(path, column="text"):
    return Corpus(FileTable(str(path)), column)


def write_jsonl(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_same_texts_in_any_file_are_the_same_corpus(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", *({"n": number, "text": text} for number, text in enumerate(TEXTS)))
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet")
    surveys = {corpus(tmp_path / name).survey() for name in ("a.jsonl", "a.parquet")}
    assert list(corpus(tmp_path / "a.jsonl")) == TEXTS
    assert len(surveys) == 1
    assert surveys.pop().rows == 4


def test_lines_of_a_text_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffA cat sleeps.\r\n\n  \n Zoë, paid. \nlast".encode())
    assert list(corpus(path)) == ["A cat sleeps.", "Zoë, paid.", "last"]


@pytest.mark.parametrize(
    "other", [TEXTS[::-1], TEXTS[:3], [*TEXTS[:2], TEXTS[2] + TEXTS[3]], [*TEXTS[:3], "A cat sleep"]]
)
def test_another_corpus_has_another_fingerprint(tmp_path, other):
    first, second = (write_jsonl(tmp_path / f"{len(texts[0])}.jsonl", *({"text": text} for text in texts))
                     for texts in (["x", *TEXTS], ["yy", *other]))  # fmt: skip
    assert corpus(first).survey().fingerprint != corpus(second).survey().fingerprint


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"text": 3}, "record 2: 'text' is int, not text"),
        ({"text": None}, "record 2: 'text' is NoneType, not text"),
        ({"texts": "a"}, "record 2 has no column 'text'; it has 'texts'"),
        ({"text": "\ud83d"}, "record 2: 'text' has half of a surrogate pair. Mend the text or remove it."),
        ({"text": "a\0b"}, "record 2: 'text' has NUL characters. Mend the text or remove it."),
        (
            {"text": "a" * 1_000_001},
            "record 2: 'text' has more than 1,000,000 characters. Mend the text or remove it.",
        ),
    ],
)
def test_what_is_no_text_is_named(tmp_path, record, expected):
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "fine"}, record)
    with pytest.raises(UserError) as error:
        corpus(path).survey()
    assert str(error.value) == f"{path}, {expected}"
