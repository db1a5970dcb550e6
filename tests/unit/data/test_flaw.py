"""One rule says which text is unusable, to every reader."""

import json
from collections import Counter

import pytest

from sempa_lightning.data.clean import clean
from sempa_lightning.data.flaw import MAX_CHARACTERS, flaw, unreadable
from sempa_lightning.data.labelled_texts import LabelledTable
from sempa_lightning.data.scored_pairs import JsonlPairs, JsonlStrings
from sempa_lightning.data.sources.triplets import Triplets
from sempa_lightning.data.table import FileTable
from sempa_lightning.embedding.corpus import Corpus
from sempa_lightning.errors import UserError
from sempa_lightning.synthesis.sentences import read_sentences

UNREADABLE = {
    "half \ud83d": "has half of a surrogate pair",
    "a\0b": "has NUL characters",
    "a" * (MAX_CHARACTERS + 1): "has more than 1,000,000 characters",
}
DEEP = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(("text", "reason"), UNREADABLE.items(), ids=["surrogate", "nul", "long"])
def test_what_is_no_text(text, reason):
    assert unreadable(text) == flaw(text) == reason


@pytest.mark.parametrize("text", ["a\x12b", "\u200b", "", "nan", "a" * MAX_CHARACTERS, "\U0001f600", "a\r\n\tb"])
def test_what_evaluation_reads_as_it_is(text):
    """Published sets hold control characters, and their rows must not be lost."""
    assert unreadable(text) is None


@pytest.mark.parametrize("text", ["\u200c\u200d", "\ufeff", "\u2063 \u00ad", "\u3164", "\ufe0f", "\x1c"])
def test_what_is_invisible_is_empty_for_training(text):
    assert flaw(text.strip()) == "empty"


@pytest.mark.parametrize(
    "text", ["\u0301", "\U0001f468\u200d\U0001f33e", "\ue000", "\u0645\u06cc\u200c\u0634\u0648\u062f", "."]
)
def test_what_can_be_seen_is_not(text):
    assert flaw(text) is None


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.mark.parametrize(("text", "reason"), UNREADABLE.items(), ids=["surrogate", "nul", "long"])
def test_all_readers_follow_it(tmp_path, text, reason):
    good = {"text": "A cat.", "label": "a", "sentence1": "A cat.", "sentence2": "A dog.", "score": 1}
    path = write(tmp_path / "rows.jsonl", good, good | {"text": text, "sentence2": text})
    table = FileTable(path)

    dropped: Counter[str] = Counter()
    rows = Triplets(table, anchor="text", chosen="sentence1", rejected="sentence2")
    assert [row.anchor for row in clean(rows, dropped)] == ["A cat."]
    assert dropped[f"anchor {reason}"] == dropped[f"rejected candidate: {reason}"] == 1
    assert read_sentences(table, "text", None).left_out == {reason: 1}

    for source, place in (
        (Corpus(table, "text"), "record 2: 'text'"),
        (LabelledTable(table, "text", "label"), "row 2, column text: the text"),
        (JsonlPairs(path), "line 2: 'sentence2'"),
        (JsonlStrings([path]), "line 2: a text"),
    ):
        with pytest.raises(UserError) as error:
            list(source)
        assert str(error.value) == f"{path}, {place} {reason}. Mend the text or remove it."


def test_json_that_is_nested_too_deeply_names_its_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "A cat."}\n' + DEEP + "\n")
    for source in (FileTable(str(path)), JsonlStrings([str(path)]), Corpus(FileTable(str(path)), "text")):
        with pytest.raises(UserError) as error:
            list(source)
        assert str(error.value) == f"{path}, line 2: JSON is nested too deeply"


def test_a_cell_of_megabytes_in_a_csv_is_dropped_and_counted(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"a,c,r\nA cat.,b,c\n{'long ' * 300_000},b,c\n")
    dropped: Counter[str] = Counter()
    assert len(list(clean(Triplets(FileTable(str(path)), anchor="a", chosen="c", rejected="r"), dropped))) == 1
    assert dropped == {"anchor has more than 1,000,000 characters": 1}
