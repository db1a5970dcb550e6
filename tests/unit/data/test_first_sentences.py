from sempa_lightning.data.first_sentences import FirstSentences
from sempa_lightning.data.scored_pairs import JsonlPairs


def test_first_sentences_in_order(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"sentence1": "A", "sentence2": "B", "score": 1}\n{"sentence1": "C", "sentence2": "A", "score": 5}\n'
    )
    source = FirstSentences(JsonlPairs(str(path)))
    assert source.missing is None
    assert list(source) == ["A", "C"]
    assert list(source) == ["A", "C"], "a source can be read again"


def test_says_what_its_pairs_miss(tmp_path):
    assert "no file" in FirstSentences(JsonlPairs(str(tmp_path / "none.jsonl"))).missing
