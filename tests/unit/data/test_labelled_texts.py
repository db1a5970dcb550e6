import json
from collections import Counter

import pytest

from sempa_lightning.data.labelled_texts import (
    LabelledTable,
    LabelledText,
    MrpcFile,
    ParallelFiles,
    SentEvalFile,
    read_labelled,
)
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError

WINDOWS = "cp1252"
# Rows of each label, as SentEval and the sets' papers give them.
SENTENCES = {
    "rt-polarity.all": (WINDOWS, {"0": 5331, "1": 5331}),
    "custrev.all": ("utf-8", {"0": 1368, "1": 2407}),
    "subj.all": (WINDOWS, {"0": 5000, "1": 5000}),
    "mpqa.all": ("utf-8", {"0": 7294, "1": 3312}),
    "stsa.binary.train": ("utf-8", {"0": 3310, "1": 3610}),
    "stsa.binary.dev": ("utf-8", {"0": 428, "1": 444}),
    "stsa.binary.test": ("utf-8", {"0": 912, "1": 909}),
    "TREC.train.all": (WINDOWS, {"0": 1162, "1": 1250, "2": 86, "3": 1223, "4": 835, "5": 896}),
    "TREC.test.all": ("utf-8", {"0": 138, "1": 94, "2": 9, "3": 65, "4": 81, "5": 113}),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", SENTENCES)
def test_senteval_s_sets_have_their_official_rows(data_dir, name):
    encoding, counts = SENTENCES[name]
    rows = list(SentEvalFile(str(data_dir / "sentence-classification" / name), encoding))
    assert Counter(row.label for row in rows) == counts
    texts = [row.texts[0] for row in rows]
    assert all(texts)
    assert not any("\x80" <= character < "\xa0" for text in texts for character in text), "control characters"


@pytest.mark.real_data
def test_mr_is_read_in_the_encoding_it_was_written_in(data_dir):
    path = str(data_dir / "sentence-classification" / "rt-polarity.all")
    texts = [row.texts[0] for row in SentEvalFile(path, WINDOWS)]
    assert any("the action clichés just pile up ." in text for text in texts)
    assert any("hmmm…might i suggest" in text for text in texts)
    with pytest.raises(UserError, match=r"rt-polarity.all, line [0-9]+: not UTF-8 text .*encoding"):
        list(SentEvalFile(path))


@pytest.mark.real_data
def test_the_other_sets_have_their_official_rows(data_dir):
    for part, rows, paraphrases in (("train", 4076, 2753), ("test", 1725, 1147)):
        pairs = read_labelled(MrpcFile(str(data_dir / "mrpc" / f"msr_paraphrase_{part}.txt")), 2)
        assert Counter(pair.label for pair in pairs) == {"1": paraphrases, "0": rows - paraphrases}
    for part, rows in (("train", 10003), ("test", 3080)):
        table = FileTable(str(data_dir / "banking77" / f"{part}.csv"))
        texts = read_labelled(LabelledTable(table, "text", "category"))
        assert len(texts) == rows
        assert len({text.label for text in texts}) == 77
    folder = data_dir / "searchsnippets"
    snippets = read_labelled(ParallelFiles(str(folder / "SearchSnippets.txt"), str(folder / "SearchSnippets_gnd.txt")))
    assert len(snippets) == 12340
    assert {snippet.label for snippet in snippets} == set("12345678")
    assert snippets[0].texts[0].startswith("turtlesoft"), "the byte-order mark is no text"


def test_a_line_without_text_is_a_full_stop(tmp_path):
    path = tmp_path / "some.all"
    path.write_text("0 It  rains . \n1 \n1 (a)\n")
    assert list(SentEvalFile(str(path))) == [
        LabelledText(("It rains .",), "0"),
        LabelledText((".",), "1"),
        LabelledText(("(a)",), "1"),
    ]


def test_a_missing_label_is_named_by_row_and_column(tmp_path):
    path = tmp_path / "some.all"
    path.write_text("0 rain\n snow\n")
    with pytest.raises(UserError, match=r"some.all, row 2: no label in column 1"):
        list(SentEvalFile(str(path)))

    path = tmp_path / "mrpc.txt"
    path.write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n\t1\t2\ta\tb\n")
    with pytest.raises(UserError, match=r"mrpc.txt, row 3, column Quality: no label"):
        list(MrpcFile(str(path)))
    path.write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\n")
    with pytest.raises(UserError, match=r"row 2: 4 cells"):
        list(MrpcFile(str(path)))


@pytest.mark.parametrize("label", ['""', '" "', "null", "NaN"])
def test_a_missing_label_of_a_table_is_named_by_row_and_column(tmp_path, label):
    path = tmp_path / "some.jsonl"
    path.write_text('{"text": "rain", "kind": 3}\n{"text": "snow", "kind": ' + label + "}\n")
    with pytest.raises(UserError, match=r"some.jsonl, row 2, column kind: no label"):
        list(LabelledTable(FileTable(str(path)), "text", "kind"))


def test_a_table_of_one_s_own(tmp_path):
    path = tmp_path / "some.tsv"
    path.write_text("one\ttwo\tsame\nrain\tdrizzle\tyes\nrain\tsun\tno\n")
    rows = read_labelled(LabelledTable(FileTable(str(path)), ["one", "two"], "same"), 2)
    assert rows == [LabelledText(("rain", "drizzle"), "yes"), LabelledText(("rain", "sun"), "no")]
    with pytest.raises(UserError, match="has no column 'label'; it has 'one', 'two', 'same'"):
        list(LabelledTable(FileTable(str(path)), "one", "label"))
    with pytest.raises(UserError, match=r"2 text\(s\) to a label, but the task needs 1"):
        read_labelled(LabelledTable(FileTable(str(path)), ["one", "two"], "same"))
    path.write_text("one\tsame\n \tyes\n")
    with pytest.raises(UserError, match=r"row 1, column one: no text"):
        list(LabelledTable(FileTable(str(path)), "one", "same"))
    path.write_text("one\tsame\nrain\tyes\nsun\tyes\n")
    with pytest.raises(UserError, match="all labels are 'yes'"):
        read_labelled(LabelledTable(FileTable(str(path)), "one", "same"))


def test_texts_and_labels_in_two_files(tmp_path):
    texts, labels = tmp_path / "texts.txt", tmp_path / "labels.txt"
    texts.write_text("\ufeffrain \nsun\n", encoding="utf-8")
    assert "labels.txt" in ParallelFiles(str(texts), str(labels)).missing
    labels.write_text("1\n2\n")
    source = ParallelFiles(str(texts), str(labels))
    assert source.missing is None
    assert list(source) == [LabelledText(("rain",), "1"), LabelledText(("sun",), "2")]
    labels.write_text("1\n\n")
    with pytest.raises(UserError, match=r"labels.txt, row 2, column 1: no label"):
        list(source)
    labels.write_text("1\n")
    with pytest.raises(UserError, match=r"texts.txt has 2 lines, but .*labels.txt 1"):
        list(source)


@pytest.mark.parametrize("label", [float("inf"), ["a"], {"a": 1}, "half \ud83d"])
def test_a_label_that_is_none(tmp_path, label):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "a", "label": kind}) + "\n" for kind in ("yes", label)))
    with pytest.raises(UserError, match="row 2, column label: "):
        list(LabelledTable(FileTable(str(path)), "text", "label"))
