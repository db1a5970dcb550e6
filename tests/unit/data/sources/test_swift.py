"""ms-swift's formats, SemPA's own lines first."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sempa_lightning.data.clean import clean
from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.conversation import SEVERAL_TURNS
from sempa_lightning.data.sources.swift import SwiftPreferences
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError

ASKED = 'Keep the same meaning of this sentence: "A man sells donuts.", while making some changes.'
USER = {"role": "user", "content": ASKED}
REPLY = {"role": "assistant", "content": "Donuts are sold."}
SLEEPS = {"role": "assistant", "content": "A man sleeps."}
GOOD = {"messages": [USER, REPLY], "rejected_response": "A man sleeps."}
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
        {"messages": [USER, REPLY], "rejected_messages": [SLEEPS]},
        {"messages": [{"role": "system", "content": "s"}, USER, REPLY], "rejected_messages": [USER, SLEEPS]},
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
        ({"messages": [USER, REPLY], "rejected_response": 3}, "'rejected_response' is neither text nor a list"),
        (
            {"messages": [USER, REPLY], "rejected_messages": [{"role": "user", "content": "Other?"}, SLEEPS]},
            "record 1: 'messages' and 'rejected_messages' differ before their last turn",
        ),
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


def test_a_dialogue_of_several_turns_is_dropped_and_counted(tmp_path):
    messages = [{"role": "user", "content": "Hi"}, SLEEPS, USER, REPLY]
    rows = source(tmp_path, {"messages": messages, "rejected_response": "No."}, GOOD)
    dropped: Counter[str] = Counter()
    assert list(clean(rows, dropped)) == [ROW]
    assert dropped == {SEVERAL_TURNS: 1}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"messages": [USER, REPLY], "rejected_response": None}, "no usable rejected"),
        ({"messages": [USER, REPLY], "rejected_messages": None}, "no usable rejected"),
        ({"messages": None, "rejected_response": "x"}, "anchor empty"),
        ({"messages": [USER, {**REPLY, "content": None}], "rejected_response": "x"}, "chosen empty"),
    ],
)
def test_a_null_counts_as_an_empty_text(tmp_path, record, reason):
    dropped: Counter[str] = Counter()
    assert list(clean(source(tmp_path, record, GOOD), dropped)) == [ROW]
    assert dropped[reason] == 1
