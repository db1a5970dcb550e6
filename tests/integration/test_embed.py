"""The embed command: the same bytes whoever writes them and however often they are killed."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import torch

from sempa_lightning.artifacts import EmbeddingDir, RunDir

ROWS, PART = 2000, 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, sentences):
    """Two thousand short texts; some come again, in the same part and in others, and one is too long for the model."""
    texts = [f"{sentences[number % 300][:40]} {number // 7}" for number in range(ROWS - 1)]
    texts.insert(70, "Too much of it. " * 100)
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    path.write_text("\n".join(texts) + "\n")
    return path


@pytest.fixture(scope="module")
def words(corpus):
    return ["model=tiny_random", f"corpus={corpus}", f"part_rows={PART}", "device=cpu"]


@pytest.fixture(scope="module")
def whole(embed_here, words, tmp_path_factory):
    """All parts, written by one process that nobody has interrupted, and what it said."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    done = embed_here(*words, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return EmbeddingDir(folder), done


def vectors(folder):
    table = pq.ParquetDataset(sorted(folder.path.glob("part-*.parquet"))).read()
    return table["row"].to_pylist(), torch.tensor(table["vector"].combine_chunks().flatten().to_numpy()).view(
        len(table), -1
    )


def contents(folder):
    """Names and bytes of the parts, and of what a killed process may have left."""
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if "part" in path.name}


def test_each_text_has_the_vector_that_it_has_alone(whole, corpus):
    from hydra import compose, initialize_config_dir

    from sempa_lightning.entry import conf_dir, instantiate
    from sempa_lightning.models.embedder import Embedder

    folder, done = whole
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("embed", ["model=tiny_random"])
    embedder = Embedder(*instantiate(cfg.model), instantiate(cfg.readout))
    texts = corpus.read_text().splitlines()
    rows, found = vectors(folder)
    assert rows == list(range(ROWS))
    places = [0, 1, 59, 60, 70, 1000, 1999]
    expected = torch.cat([embedder.encode([texts[place]]) for place in places])
    torch.testing.assert_close(found[places], expected, rtol=0, atol=1e-5)
    assert len(found.unique(dim=0)) > 0.9 * len(set(texts))

    manifest = json.loads(folder.manifest.read_text())
    assert manifest["command"].startswith("python")
    counts = {"texts": ROWS, "parts": 34, "width": 32, "truncated": 1}
    assert {name: manifest[name] for name in counts} == counts
    assert done.stderr == ""
    assert done.stdout.count("part-000") == 34
    assert re.search(r"part-00000\.parquet: 60 of 2,000 rows, [\d,]+ rows/s, \d+:\d\d:\d\d left\n", done.stdout)
    assert re.search(r"truncated +│ +1 ", done.stdout)


def test_killed_twice_and_stopped_it_writes_the_bytes_of_an_uninterrupted_run(whole, embed_here, words, tmp_path):
    folder = EmbeddingDir(tmp_path / "out")
    call = [*words, f"hydra.run.dir={folder.path}"]
    for enough, number, code in (3, signal.SIGKILL, -9), (12, signal.SIGKILL, -9), (20, signal.SIGTERM, 75):
        command = [sys.executable, "-m", "sempa_lightning.embed", *call]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and not folder.part(enough).is_file():
                time.sleep(0.001)
            process.send_signal(number)
            stdout, stderr = process.communicate()
        assert (process.returncode, stderr) == (code, "")
        assert (f"stopped: resume={folder.path} goes on\n" in stdout) == (code == 75)
        assert enough < len(list(folder.path.glob("part-*.parquet"))) < 34
        assert not folder.manifest.exists()
    (folder.path / ".part-00033.parquet.1").write_text("half of a p")  # a kill may come while a part is written
    before = {path: path.stat().st_mtime_ns for path in folder.path.glob("part-*.parquet")}
    assert embed_here(*call).returncode == 0
    assert contents(folder) == contents(whole[0])
    assert {path: path.stat().st_mtime_ns for path in before} == before

    again = embed_here(f"resume={folder.path}")
    assert again.returncode == 0
    assert "rows/s" not in again.stdout
    assert "Embedded" in again.stdout


def test_two_processes_write_the_bytes_of_one(whole, embed_here, words, tmp_path):
    folder = EmbeddingDir(tmp_path / "out")
    done = embed_here(*words, f"hydra.run.dir={folder.path}", "processes=2")
    assert done.returncode == 0, done.stderr
    assert contents(folder) == contents(whole[0])
    assert done.stdout.count("rows/s") == 34
    assert all(folder.log(f"process-{rank}").read_text() == "" for rank in (1, 2))
    assert (folder.read_config()["shard"], folder.read_config()["processes"]) == (None, 2)


def test_what_is_gone_on_with_is_all_of_it(whole, embed_here, words, tmp_path):
    folder = EmbeddingDir(tmp_path / "out")
    done = embed_here(*words, f"hydra.run.dir={folder.path}", "shard=1/2")
    assert "this share is done; 17 of 34 parts are there" in done.stdout
    done = embed_here(f"resume={folder.path}")
    assert done.returncode == 0, done.stderr
    assert contents(folder) == contents(whole[0])


def test_tasks_of_an_array_write_the_bytes_of_one_in_any_order(whole, embed_here, words, tmp_path, monkeypatch):
    folder = EmbeddingDir(tmp_path / "out")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    said = []
    for task in "2", "1":
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        done = embed_here(*words, f"hydra.run.dir={folder.path}")
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "this share is done; 17 of 34 parts are there" in said[0]
    assert "Embedded" in said[1]
    assert contents(folder) == contents(whole[0])


def test_what_a_run_trained_is_read_out_as_it_was_trained_for(embed_here, write_run, sentences, tmp_path):
    from sempa_lightning.notebook import load

    run = write_run(readout={"pooling": {"_target_": "sempa_lightning.pooling.mean.mean", "_partial_": True}})
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"sentence": text}) + "\n" for text in sentences[:5]))
    out = tmp_path / "out"
    done = embed_here(f"run={run.path}", f"corpus={path}", "column=sentence", f"hydra.run.dir={out}", "device=cpu",
                      "dtype=float16", "keep_text=true")  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pq.read_table(EmbeddingDir(out).part(0))
    assert table["text"].to_pylist() == sentences[:5]
    expected = load(run.path, device="cpu").encode(sentences[:5])
    torch.testing.assert_close(torch.tensor(table["vector"].to_pylist()), expected, rtol=1e-3, atol=1e-4)
    assert RunDir(run.path).config.is_file()


def test_bad_input_is_told_in_one_line(embed_here, words, corpus, tiny_base, tmp_path):
    def told(*words):
        done = embed_here(*words, f"hydra.run.dir={tmp_path}/bad")
        assert done.returncode == 1, done.stdout
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("error: ")

    assert told().startswith("embed with what? run=<run folder>, model=<option> or model.path=")
    assert told("model=tiny_random").startswith("embed what? corpus=<.txt, .csv, .tsv, .jsonl or .parquet file")
    assert told("model=tiny_random", "corpus=gone.txt").startswith("corpus: no file gone.txt. Name a .csv, ")
    assert f"{corpus}, record 1 has no column 'words'; it has 'text'" in told(*words, "column=words")
    assert told(*words, "shard=2/2").startswith("shard=2/2 is no share")
    assert told(*words, "part_rows=0").startswith("part_rows: expected a whole number ≥ 1, found 0")
    assert told(*words, "dtype=int8").startswith("dtype: expected one of float32, float16, found 'int8'")
    assert told(*words, "readout.layer=9").startswith("readout.layer=9: the model's layers are 0 to 2")
    assert not list((tmp_path / "bad").glob("part-*"))


def test_a_folder_of_something_else_is_refused_and_stays(embed_here, tiny_base, sentences, tmp_path):
    base, path, folder = (
        shutil.copytree(tiny_base, tmp_path / "base"),
        tmp_path / "a.txt",
        EmbeddingDir(tmp_path / "out"),
    )
    path.write_text("\n".join(sentences[:30]))
    words = [f"model.path={base}", f"corpus={path}", "part_rows=10", "device=cpu", f"hydra.run.dir={folder.path}"]
    assert embed_here(*words).returncode == 0
    kept = contents(folder)

    def told(*words):
        done = embed_here(*words)
        assert done.returncode == 1
        return done.stderr

    assert f"{folder.path} holds something else already, with another readout: " in told(*words, "readout=mean")
    path.write_text("\n".join(sentences[:31]))
    assert f"{folder.part(0)} holds vectors of another corpus" in told(*words)
    path.write_text("\n".join(sentences[:30]))
    folder.part(1).unlink()
    weights = base / "model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({name: 2 * weight for name, weight in load_file(weights).items()}, weights, {"format": "pt"})
    assert f"{folder.part(0)} was made with other weights" in told(*words)
    assert contents(folder) == {name: content for name, content in kept.items() if name != folder.part(1).name}


def test_processes_without_a_common_folder_are_refused(embed_here, words, tmp_path, monkeypatch):
    """As torchrun starts them, without hydra.run.dir: each would make a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = embed_here(*words)
    assert done.returncode == 1
    assert done.stderr.startswith("error: processes that share a corpus write into one folder: give all the same")
