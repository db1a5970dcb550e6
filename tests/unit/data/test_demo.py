"""What the demonstration data must not give away: length, single words, templates, copies."""

import json
import re
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from sempa_lightning.assets import local_path
from sempa_lightning.data.load import CleanRows
from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.triplets import Triplets
from sempa_lightning.data.table import FileTable

PARTS = ("train", "dev", "test")
WORD = re.compile(r"[a-z0-9']+")


def rows_of(part: str) -> list[Row]:
    table = FileTable(f"pkg://sempa_lightning/assets/demo/{part}.jsonl")
    source = Triplets(table, anchor="anchor", chosen="chosen", rejected="rejected")
    rows = CleanRows(source, group=False)
    kept = list(rows)
    assert rows.counts.read == rows.counts.kept, f"cleaning takes rows out of {part}: {rows.counts}"
    return kept


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [row for part in PARTS for row in rows_of(part)]


def sibling_groups(rows: list[Row]) -> list[int]:
    """A number for each row; rows that share a sentence, directly or through others, have the same one."""
    parent = list(range(len(rows)))

    def root(place: int) -> int:
        while parent[place] != place:
            place = parent[place]
        return place

    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        for text in (row.anchor, *row.chosen, *row.rejected):
            parent[root(place)] = root(first.setdefault(text, place))
    return [root(place) for place in range(len(rows))]


def given_away(features: csr_matrix | np.ndarray, rows: list[Row]) -> tuple[float, float]:
    """How well a linear model of the completion alone finds the chosen: pairwise and balanced accuracy."""
    is_chosen = np.array([place < len(row.chosen) for row in rows for place in range(_size(row))])
    owner = np.array([number for number, row in enumerate(rows) for _ in range(_size(row))])
    groups = np.array(sibling_groups(rows))[owner]
    assert len(set(groups)) > 100
    model = LogisticRegression(max_iter=2000, class_weight="balanced", C=0.1)
    folds = GroupKFold(5)
    scores = cross_val_predict(model, features, is_chosen, groups=groups, cv=folds, method="decision_function")
    wins = []
    for number in range(len(rows)):
        mine, chosen = scores[owner == number], is_chosen[owner == number]
        wins += [(good > bad) + (good == bad) / 2 for good in mine[chosen] for bad in mine[~chosen]]
    return float(np.mean(wins)), float(balanced_accuracy_score(is_chosen, scores > 0))


def _size(row: Row) -> int:
    return len(row.chosen) + len(row.rejected)


def completions(rows: list[Row]) -> list[str]:
    return [text for row in rows for text in (*row.chosen, *row.rejected)]


def test_the_measure_can_find_a_give_away():
    """Meta-test: where the chosen are marked by a word, or by length, the measure says so."""
    marked = [
        Row(f"a{number}", (f"surely b{number}",), (f"c{number}", f"d{number} and so on")) for number in range(500)
    ]
    words = CountVectorizer().fit_transform(completions(marked))
    assert min(given_away(words, marked)) > 0.95
    lengths = np.array([[len(text)] for text in completions(marked)])
    assert max(given_away(lengths, marked)) > 0.7


def test_length_does_not_tell(rows):
    texts = completions(rows)
    lengths = np.array([[len(text) / 100, len(text.split()) / 20] for text in texts])
    pairwise_accuracy, balanced = given_away(lengths, rows)
    assert pairwise_accuracy < 0.65
    assert balanced < 0.65


def test_words_do_not_tell(rows):
    words = CountVectorizer(min_df=2, token_pattern=r"(?u)\b\w+\b").fit_transform(completions(rows))
    pairwise_accuracy, balanced = given_away(words, rows)
    assert pairwise_accuracy < 0.65
    assert balanced < 0.65


@pytest.mark.parametrize("side", ["anchor", "chosen"])
def test_no_template_makes_more_than_two_percent(rows, side):
    texts = [row.anchor if side == "anchor" else row.chosen[0] for row in rows]
    signatures = Counter(
        " ".join(word if word in ENGLISH_STOP_WORDS else "_" for word in WORD.findall(text.lower())) for text in texts
    )
    signature, number = signatures.most_common(1)[0]
    assert number <= 0.02 * len(rows), f"{signature!r} makes {number} of {len(rows)} rows"


def test_no_two_anchors_are_near_duplicates(rows):
    anchors = [row.anchor for row in rows]
    words = CountVectorizer(token_pattern=WORD.pattern, binary=True, dtype=np.float32).fit_transform(anchors)
    sizes = np.asarray(words.sum(1)).ravel()
    alike = []
    for start, stop in pairwise([*range(0, len(anchors), 500), len(anchors)]):
        shared = (words[start:stop] @ words.T).toarray()
        jaccard = shared / (sizes[start:stop, None] + sizes - shared)
        alike += [(start + one, other) for one, other in np.argwhere(jaccard > 0.8) if start + one < other]
    assert not alike, [(anchors[one], anchors[other]) for one, other in alike]


def test_no_sentence_is_in_two_files():
    sentences = {}
    for part in PARTS:
        texts = [text for row in rows_of(part) for text in (row.anchor, *row.chosen, *row.rejected)]
        sentences[part] = {" ".join(WORD.findall(text.lower())) for text in texts}
    for part in ("sts_dev", "sts_test"):
        lines = local_path(f"pkg://sempa_lightning/assets/demo/{part}.jsonl").read_text().splitlines()
        pairs = [json.loads(line) for line in lines]
        texts = [pair[side] for pair in pairs for side in ("sentence1", "sentence2")]
        sentences[part] = {" ".join(WORD.findall(text.lower())) for text in texts}
    shared = {(one, other): sentences[one] & sentences[other] for one, other in combinations(sentences, 2)}
    assert {files: texts for files, texts in shared.items() if texts} == {}
