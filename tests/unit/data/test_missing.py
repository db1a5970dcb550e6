from sempa_lightning.data.missing import why_missing
from sempa_lightning.data.scored_pairs import JsonlPairs


def test_the_first_that_is_not_here_is_told(tmp_path):
    here = tmp_path / "here.jsonl"
    here.touch()
    one, other = (JsonlPairs(str(tmp_path / name)) for name in ("one.jsonl", "other.jsonl"))
    assert why_missing(JsonlPairs(str(here)), other, one) == f"no file {tmp_path / 'other.jsonl'}"


def test_texts_at_hand_and_nothing_at_all_are_never_missing():
    assert why_missing(["A text."], None) is None
