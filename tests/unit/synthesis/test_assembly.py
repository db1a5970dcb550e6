"""From outputs to files: every one is in a row or has a reason, and the files say the same as the account."""

import json

import pytest

from sempa_lightning.artifacts import SynthesisDir
from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.triplets import Triplets
from sempa_lightning.data.table import FileTable
from sempa_lightning.synthesis.arrangement import pairs, ranked
from sempa_lightning.synthesis.assembly import assemble
from sempa_lightning.synthesis.filters import empty, unfinished

FILTERS = {"empty": empty, "unfinished": unfinished}


@pytest.fixture
def folder(tmp_path):
    return SynthesisDir(tmp_path)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(folder):
    return list(Triplets(FileTable(str(folder.rows)), anchor="anchor", chosen="chosen", rejected="rejected"))


def test_the_first_reason_counts(draft, folder):
    drafts = [
        draft("Pastry."),
        draft("", ended=False),
        draft("Sweets.", ended=False),
        draft("pastry!", number=1),
        draft("", reason="too long to ask"),
        draft("Pastry", anchor="Another sentence."),
        draft("Bread…", anchor="Another sentence.", prompt="other"),
    ]
    account = assemble(drafts, FILTERS, pairs, folder)
    reasons = {"duplicate": 2, "empty": 1, "unfinished": 1, "too long to ask": 1}
    assert account.as_dict() == {"outputs": 7, "kept": 2, "rows": 2, "rejected": reasons}
    assert str(account) == ("7 outputs, 2 kept, rejected: 2 duplicate, 1 empty, 1 unfinished, 1 too long to ask")
    assert rows(folder) == [
        Row("A man sells donuts.", ("Pastry.",), ()),
        Row("Another sentence.", ("Bread…",), ()),
    ]
    assert [(line["prompt"], line["cosines"]) for line in lines(folder.rows)] == [
        ("simpler", [0.75]),
        ("other", [0.75]),
    ]
    rejected = [(line["text"], line["reason"]) for line in lines(folder.rejected)]
    assert rejected == [
        ("", "empty"), ("Sweets.", "unfinished"), ("pastry!", "duplicate"), ("", "too long to ask"),
        ("Pastry", "duplicate"),
    ]  # fmt: skip
    assert [ranking.chosen[0].text for ranking in account.examples] == ["Pastry.", "Bread…"]


def test_candidates_of_one_prompt_are_ranked_together(draft, folder):
    drafts = [
        draft("a", cosine=0.1), draft("b", cosine=0.7), draft("c", cosine=0.5),
        draft("d", prompt="other"),
        draft("e", anchor="Second.", cosine=-0.5), draft("f", anchor="Second.", cosine=0.25),
    ]  # fmt: skip
    account = assemble(drafts, FILTERS, lambda group: ranked(group, top=1, chosen_from=-1.0, rejected_to=0.3), folder)
    assert rows(folder) == [Row("A man sells donuts.", ("b",), ("a",)), Row("Second.", ("f",), ("e",))]
    assert [line["cosines"] for line in lines(folder.rows)] == [[0.7, 0.1], [0.25, -0.5]]
    assert [(line["text"], line["reason"]) for line in lines(folder.rejected)] == [
        ("c", "neither chosen nor rejected"),
        ("d", "neither chosen nor rejected"),
    ]
    assert (account.outputs, account.kept, account.rows) == (6, 4, 2)


def test_nothing_kept_leaves_no_file_of_rows(draft, folder):
    assemble([draft("Pastry.")], FILTERS, pairs, folder)
    assert folder.rows.is_file()
    account = assemble([draft(""), draft("x", ended=False)], FILTERS, pairs, folder)
    assert account.rows == 0
    assert not folder.rows.exists()
    assert len(lines(folder.rejected)) == 2


def test_an_error_leaves_the_old_files(draft, folder):
    assemble([draft("Pastry.")], FILTERS, pairs, folder)
    before = {path: path.read_bytes() for path in folder.path.iterdir()}

    def broken():
        yield draft("Sweets.")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        assemble(broken(), FILTERS, pairs, folder)
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before
    assert len(before) == 2
