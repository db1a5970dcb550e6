"""The mine command: from a run or a model to rows that train as they are."""

import json
import re
import signal
from pathlib import Path

import pytest

from sempa_lightning.data.hard_negatives import Embedded
from sempa_lightning.models.reading import Reading


@pytest.fixture(scope="module")
def run(train, tmp_path_factory):
    """A run of two steps."""
    return train(tmp_path_factory.mktemp("run"), "objective=preference", "trainer.max_steps=2")


@pytest.fixture(scope="module")
def words(run, tiny_arguments):
    """Command-line words that mine the run's own rows with a window that leaves something."""
    cache = next(word for word in tiny_arguments if word.startswith("paths.cache_dir="))
    return [f"run={run.path}", "number=3", "of_positive=null", "max_similarity=0.999", cache]


@pytest.fixture(scope="module")
def mined(mine_here, words, tmp_path_factory):
    """The folder of mined rows, and what the command said."""
    folder = tmp_path_factory.mktemp("mined")
    done = mine_here(*words, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_and_their_account(run, mined, tiny_arguments):
    folder, done = mined
    manifest = json.loads((folder / "manifest.json").read_text())
    negatives, training = set(), set()
    for part, number in (("train", 41), ("dev", 8)):
        (source,) = (word.partition("=")[2] for word in tiny_arguments if word.startswith(f"data.{part}.table.path="))
        given = read(Path(source))
        rows = read(folder / f"{part}.jsonl")
        assert [row["anchor"] for row in rows] == [row["anchor"] for row in given]
        for row, before in zip(rows, given, strict=True):
            assert row["chosen"] == before["chosen"]
            assert len(row["rejected"]) == len(row["similarities"]) == 3
            assert sorted(row["similarities"], reverse=True) == row["similarities"]
            assert max(row["similarities"]) < 0.999
            assert not {row["anchor"], *row["chosen"]} & {*row["rejected"]}
            negatives |= {*row["rejected"]}
        found = manifest[part]
        assert found["rows"] == number
        assert sum(found["candidates"].values()) == number
        assert found["left_out"]["same_words"] >= number * (part == "train")
        assert len(found["examples"]) == 3
        training |= {text for row in given for text in (*row["chosen"], *row["rejected"])} if part == "train" else set()
    assert negatives <= training
    assert manifest["command"].split()[2] == "sempa_lightning.mine"
    assert "Mined negatives" in done.stdout
    assert f"data=mined data.path={folder}" in done.stdout.replace("\n", " ")


def test_the_rows_train_as_they_are(mined, here, tiny_arguments, tmp_path):
    folder, _ = mined
    others = ("data.train.", "data.dev.", "data.max_rejected", "model.path=")
    done = here(
        *(word for word in tiny_arguments if not word.startswith(others)),
        *("model=tiny_random", "data=mined", f"data.path={folder}", "objective=preference"),
        *("data.batch_size=16", "trainer.max_steps=2", f"hydra.run.dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "manifest.json").read_text())["data"]
    assert data["path"] == str(folder)
    assert data["train"]["kept"] == 41
    assert data["train"]["as_trained"]["given"] == {"3": 41}
    assert data["dev"]["kept"] == 8


def test_a_second_call_reads_no_sentence_again(mined, mine_here, words, tmp_path, monkeypatch):
    def read_batch(*_):
        raise AssertionError("a sentence was read")

    monkeypatch.setattr(Reading, "read", read_batch)
    done = mine_here(*words, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    for part in ("train", "dev"):
        assert read(tmp_path / f"{part}.jsonl") == read(mined[0] / f"{part}.jsonl")


def test_a_signal_ends_it_with_a_line(mine_here, words, tmp_path, monkeypatch):
    monkeypatch.setattr(Embedded, "of", lambda *_: signal.raise_signal(signal.SIGTERM))
    done = mine_here(*words, f"hydra.run.dir={tmp_path}")
    assert (done.returncode, done.stderr) == (75, "")
    assert done.stdout.endswith("stopped: nothing to resume yet, run the same command again\n")


def test_a_model_and_pairs_without_rejected(mine_here, tiny_base, tmp_path):
    pairs = [{"a": f"Sentence {place} is here.", "b": f"Here is {place}."} for place in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = mine_here(
        *(f"model.path={tiny_base}", "data=simcse", f"data.path={tmp_path}/pairs.jsonl", "data.train.dev=0.3"),
        "data.train.test=0.2",
        *("data.columns.anchor=a", "data.columns.chosen=b", "data.columns.rejected=null", "number=2"),
        *("max_similarity=1.1", "of_positive=null", f"hydra.run.dir={tmp_path}/out", f"paths.cache_dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path / "out" / "train.jsonl") + read(tmp_path / "out" / "dev.jsonl")
    assert {len(row["rejected"]) for row in rows} == {2}
    assert {row["anchor"] for row in rows} < {pair["a"] for pair in pairs}


def test_what_either_part_chooses_for_an_anchor_is_never_rejected(mine_here, tiny_base, tmp_path):
    """Each anchor comes twice, in other spelling and so perhaps in the other part; all sentences are mined."""
    pairs = [{"a": f"Sentence {place} is here.", "b": f"Here is {place}."} for place in range(30)]
    pairs += [{"a": f"SENTENCE {place}, is here!", "b": f"Other words {place}."} for place in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = mine_here(
        *(f"model.path={tiny_base}", "data=simcse", f"data.path={tmp_path}/pairs.jsonl", "data.train.dev=0.4"),
        *("data.columns.anchor=a", "data.columns.chosen=b", "data.columns.rejected=null", "number=99"),
        *("max_similarity=1.1", "of_positive=null", f"hydra.run.dir={tmp_path}/out", f"paths.cache_dir={tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    parts = {part: read(tmp_path / "out" / f"{part}.jsonl") for part in ("train", "dev")}
    numbers = {part: {re.search(r"[0-9]+", row["anchor"])[0] for row in rows} for part, rows in parts.items()}
    assert numbers["train"] & numbers["dev"], "some anchor is in both"
    for row in (row for rows in parts.values() for row in rows):
        number = re.search(r"[0-9]+", row["anchor"])[0]
        assert not {f"Here is {number}.", f"Other words {number}."} & {*row["rejected"]}
        assert len(row["rejected"]) > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["number=0"], "number: expected a whole number ≥ 1, found 0"),
        (["of_positive=2.0"], "of_positive=2.0 is not a share above 0 and up to 1"),
        (["max_similarity=-0.9999"], "no train row has a negative"),
        (["run=null"], "with which model? run=<run folder>"),
        (["run=null", "model=tiny_random"], "for which rows?"),
    ],
)
def test_what_the_user_can_put_right(mine_here, words, tmp_path, changes, message):
    done = mine_here(*words, *changes, f"hydra.run.dir={tmp_path}/out")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not (tmp_path / "out" / "train.jsonl").exists()


def test_a_folder_of_something_else_is_left_alone(mine_here, words, run, mined):
    for folder in (run.path, mined[0]):
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        done = mine_here(*words, "number=1", f"hydra.run.dir={folder}")
        assert done.returncode == 1
        assert "holds something else already" in done.stderr
        assert before == {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
