"""ms-swift's formats, SemPA's own lines first."""

import json
from pathlib import Path

import pytest

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.swift import SwiftPreferences
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError

ASKED = 'Keep the same meaning of this sentence: "A man sells donuts.", while making some changes.'
USER = {"role": "user", "content": ASKED}
REPLY = {"role": "assistant", "content": "Donuts are sold."}
SLEEPS = {"role": "assistant", "content": "A man sleeps."}
ROW = Row(ASKED, ("Donuts are sold.",), ("A man sleeps.",))


def source(tmp_path: Path, *records: object) -> SwiftPreferences:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return SwiftPreferences(FileTable(str(file)))


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [USER, REPLY], "rejected_response": "A man sleeps."},
        {"messages": [{"role": "system", "content": "s"}, USER, REPLY], "rejected_response": "A man sleeps."},
        {"messages": [USER, REPLY], "rejected_messages": [USER, SLEEPS]},
        {"messages": [USER, REPLY], "rejected_messages": None, "rejected_response": ["A man sleeps."]},
        {
            "messages": [{"role": "user", "content": "Hi"}, SLEEPS, USER, REPLY],
            "rejected_response": "A man sleeps.",
        },
    ],
)
def test_formats(tmp_path, record):
    assert list(source(tmp_path, record)) == [ROW]


def test_list_of_rejected(tmp_path):
    record = {"messages": [USER, REPLY], "rejected_response": ["No.", "A man sleeps."]}
    assert list(source(tmp_path, record)) == [Row(ASKED, ("Donuts are sold.",), ("No.", "A man sleeps."))]


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"messages": [USER, REPLY]}, "record 1 has no column 'rejected_response'; it has 'messages'"),
        ({"query": "q"}, "record 1 has no column 'messages'"),
        ({"messages": [USER, REPLY], "rejected_response": None}, "neither text nor a list of texts"),
        (
            {"messages": [USER], "rejected_response": "x"},
            "'messages' does not end with a turn of the assistant",
        ),
        ({"messages": [REPLY], "rejected_response": "x"}, "'messages' has no turn of the user"),
        ({"messages": ASKED, "rejected_response": "x"}, "'messages' is no list of"),
        ({"messages": [USER, REPLY], "rejected_messages": [USER]}, "'rejected_messages' does not end with"),
    ],
)
def test_record_of_no_format(tmp_path, record, complaint):
    with pytest.raises(UserError, match=complaint):
        list(source(tmp_path, record))
