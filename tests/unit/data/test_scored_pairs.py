import pytest

from sempa_lightning.data.scored_pairs import JsonlStrings, PairSentences, SemEvalFolder
from sempa_lightning.errors import UserError

# What SemEval published: scored pairs of each subset.
OFFICIAL = {
    "STS12": {"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "surprise.OnWN": 750, "surprise.SMTnews": 399},
    "STS13": {"FNWN": 189, "OnWN": 561, "headlines": 750},
    "STS14": {
        "OnWN": 750,
        "deft-forum": 450,
        "deft-news": 300,
        "headlines": 750,
        "images": 750,
        "tweet-news": 750,
    },
    "STS15": {"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750},
    "STS16": {
        "answer-answer": 254,
        "headlines": 249,
        "plagiarism": 230,
        "postediting": 244,
        "question-question": 209,
    },
}


@pytest.mark.real_data
@pytest.mark.parametrize("year", OFFICIAL)
def test_a_year_of_semeval_has_its_official_pairs(data_dir, year):
    counts = {}
    for pair in SemEvalFolder(str(data_dir / "sts" / year)):
        assert pair.sentence1
        assert pair.sentence2
        assert 0 <= pair.score <= 5
        counts[pair.subset] = counts.get(pair.subset, 0) + 1
    assert counts == OFFICIAL[year]


@pytest.fixture
def folder(tmp_path):
    pairs = "A cat.\tA dog.\textra\r\nOne.\tTwo.\r\n Left .\tRight.\r\n"
    (tmp_path / "STS.input.b.news.txt").write_text(pairs, newline="")
    (tmp_path / "STS.gs.b.news.txt").write_text("4.5\r\n\r\n0\r\n")
    (tmp_path / "STS.input.a.txt").write_text("Up.\tDown.\n")
    (tmp_path / "STS.gs.a.txt").write_text("1\n")
    return tmp_path


def test_unscored_lines_are_left_out_and_pairs_know_their_subset(folder):
    assert [tuple(pair) for pair in SemEvalFolder(str(folder))] == [
        ("Up.", "Down.", 1.0, "a"),
        ("A cat.", "A dog.", 4.5, "b.news"),
        ("Left .", "Right.", 0.0, "b.news"),
    ]


def test_scores_that_do_not_fit_their_pairs_are_an_error(folder):
    (folder / "STS.gs.a.txt").write_text("1\n2\n")
    with pytest.raises(UserError, match=r"STS.input.a.txt has 1 lines, but STS.gs.a.txt 2"):
        list(SemEvalFolder(str(folder)))
    (folder / "STS.gs.a.txt").unlink()
    with pytest.raises(UserError, match=r"STS.gs.a.txt is missing"):
        list(SemEvalFolder(str(folder)))


def test_another_folder_is_an_error(tmp_path):
    assert SemEvalFolder(str(tmp_path)).missing is None
    with pytest.raises(UserError, match="holds no"):
        list(SemEvalFolder(str(tmp_path)))
    assert "no folder" in SemEvalFolder(str(tmp_path / "away")).missing


def test_sentences_of_pairs_are_missing_where_one_source_is(folder, tmp_path):
    away = SemEvalFolder(str(tmp_path / "away"))
    assert PairSentences([SemEvalFolder(str(folder))]).missing is None
    assert "no folder" in PairSentences([SemEvalFolder(str(folder)), away]).missing
    with pytest.raises(UserError, match="no folder"):
        next(iter(PairSentences([SemEvalFolder(str(folder)), away])))


def test_strings_are_missing_where_one_file_is(tmp_path):
    (tmp_path / "here.jsonl").write_text('{"text": "A"}\n')
    here, away = str(tmp_path / "here.jsonl"), str(tmp_path / "away.jsonl")
    assert JsonlStrings([here]).missing is None
    assert JsonlStrings([here, away]).missing == f"no file {away}"
