"""The formats of TRL's documentation, and what TRL itself makes of them."""

import json
from collections import Counter
from pathlib import Path

import pytest
from trl import extract_prompt

from sempa_lightning.data.clean import clean
from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.conversation import SEVERAL_TURNS
from sempa_lightning.data.sources.trl import TrlPreferences
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError

SKY = Row("What color is the sky?", ("It is blue.",), ("It is green.",))


def user(content: object) -> dict:
    return {"role": "user", "content": content}


def assistant(content: object) -> dict:
    return {"role": "assistant", "content": content}


def source(tmp_path: Path, *records: object) -> TrlPreferences:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return TrlPreferences(FileTable(str(file)))


def test_plain_with_prompt(tmp_path):
    record = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    assert list(source(tmp_path, record)) == [Row("The sky is", (" blue.",), (" green.",))]


def test_plain_without_prompt_agrees_with_trl(tmp_path):
    record = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    theirs = extract_prompt(dict(record))
    ours = Row(theirs["prompt"], (theirs["chosen"],), (theirs["rejected"],))
    assert list(source(tmp_path, record)) == [ours]


@pytest.mark.parametrize(
    ("chosen", "rejected", "row"),
    [
        ("The sky is blue.", "The sky is black.", Row("The sky is", (" blue.",), (" black.",))),
        ("The sky is", "The sky is grey", Row("The sky", (" is",), (" is grey",))),
        ("Blue", "Black", Row("", ("Blue",), ("Black",))),
        ("Q\n\nblue", "Q\n\ngreen", Row("Q", ("\n\nblue",), ("\n\ngreen",))),
    ],
)
def test_words_are_not_cut(tmp_path, chosen, rejected, row):
    assert list(source(tmp_path, {"chosen": chosen, "rejected": rejected})) == [row]


def test_conversation_with_prompt(tmp_path):
    record = {
        "prompt": [{"role": "system", "content": "Be brief."}, user("What color is the sky?")],
        "chosen": [assistant("It is blue.")],
        "rejected": [assistant("It is green.")],
    }
    assert list(source(tmp_path, record)) == [SKY]


def test_conversation_without_prompt_agrees_with_trl(tmp_path):
    record = {
        "chosen": [user("What color is the sky?"), assistant("It is blue.")],
        "rejected": [user("What color is the sky?"), assistant("It is green.")],
    }
    theirs = extract_prompt(dict(record))
    ours = Row(
        theirs["prompt"][-1]["content"],
        (theirs["chosen"][0]["content"],),
        (theirs["rejected"][0]["content"],),
    )
    assert list(source(tmp_path, record)) == [ours] == [SKY]


def test_plain_prompt_beside_whole_conversations(tmp_path):
    turns = [user("What color is the sky?")]
    record = {
        "prompt": "What color is the sky?",
        "chosen": [*turns, assistant("It is blue.")],
        "rejected": [*turns, assistant("It is green.")],
    }
    assert list(source(tmp_path, record)) == [SKY]
    record |= {"chosen": [assistant("It is blue.")], "rejected": [assistant("It is green.")]}
    assert list(source(tmp_path, record)) == [SKY]


def test_a_dialogue_of_several_turns_is_dropped_and_counted(tmp_path):
    turns = [user("Hi"), assistant("Hello."), user("What color is the sky?")]
    whole = {"chosen": [*turns, assistant("It is blue.")], "rejected": [*turns, assistant("It is green.")]}
    parted = {"prompt": turns, "chosen": [assistant("It is blue.")], "rejected": [assistant("It is green.")]}
    plain = {"prompt": turns, "chosen": "It is blue.", "rejected": "It is green."}
    good = {"prompt": turns[-1:], "chosen": "It is blue.", "rejected": "It is green."}
    dropped: Counter[str] = Counter()
    assert list(clean(source(tmp_path, whole, parted, plain, good), dropped)) == [SKY]
    assert dropped == {SEVERAL_TURNS: 3}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": None, "chosen": "It is blue.", "rejected": "It is green."}, "anchor empty"),
        ({"prompt": "a", "chosen": None, "rejected": "It is green."}, "chosen empty"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "no usable rejected"),
        ({"prompt": [user("a")], "chosen": None, "rejected": [assistant("c")]}, "chosen empty"),
        ({"prompt": [user("a")], "chosen": [assistant("b")], "rejected": None}, "no usable rejected"),
        ({"prompt": [user(None)], "chosen": [assistant("b")], "rejected": [assistant("c")]}, "anchor empty"),
    ],
)
def test_a_null_counts_as_an_empty_text(tmp_path, record, reason):
    good = {"prompt": [user("What color is the sky?")], "chosen": "It is blue.", "rejected": "It is green."}
    dropped: Counter[str] = Counter()
    assert list(clean(source(tmp_path, record, good), dropped)) == [SKY]
    assert dropped[reason] == 1


def test_equal_replies_become_a_row_for_cleaning_to_count(tmp_path):
    turns = [user("a"), assistant("b")]
    assert list(source(tmp_path, {"chosen": turns, "rejected": turns})) == [Row("a", ("b",), ("b",))]


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"prompt": "a", "chosen": "b"}, "record 1 has no column 'rejected'; it has 'prompt', 'chosen'"),
        (
            {"prompt": "a", "chosen": "b", "rejected": 3},
            "record 1: 'rejected' is int, neither text nor a list of messages",
        ),
        ({"prompt": 3, "chosen": "b", "rejected": "c"}, "record 1: 'prompt' is no list of"),
        ({"chosen": [assistant("b")], "rejected": [assistant("c")]}, "record 1 has no column 'prompt'"),
        (
            {"prompt": [assistant("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            "record 1: 'prompt' has no turn of the user",
        ),
        (
            {"chosen": [user("a"), assistant("b")], "rejected": [user("z"), assistant("c")]},
            "'chosen' and 'rejected' differ before their last turn",
        ),
        (
            {"prompt": "a", "chosen": [user("b")], "rejected": [user("c")]},
            "'chosen' does not end with a turn",
        ),
        ({"prompt": "a", "chosen": [], "rejected": []}, "'chosen' does not end with a turn"),
        (
            {"prompt": "a", "chosen": [assistant([{"type": "text"}])], "rejected": [assistant("c")]},
            "'chosen' is no list of",
        ),
    ],
)
def test_record_of_no_format(tmp_path, record, complaint):
    with pytest.raises(UserError, match=complaint):
        list(source(tmp_path, record))
