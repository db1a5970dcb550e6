"""The synthesize command: what it writes, what it refuses, and what it survives."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from sempa_lightning.artifacts import SynthesisDir

# A model that knows nothing writes neither English nor to an end.
LOOSE = ["~filters.unfinished", "~filters.language", "filters.length.low=0.0", "filters.length.high=1000.0"]
TRANSFORMATIONS = {"detail", "simpler", "teacher", "metaphor", "question"}
TINY = ["model=tiny_random", "sampling.max_new_tokens=8", *LOOSE]


@pytest.fixture(scope="module")
def file(tmp_path_factory, sentences):
    path = tmp_path_factory.mktemp("sentences") / "sentences.txt"
    path.write_text("\n".join(sentences[:40]) + "\n")
    return path


@pytest.fixture(scope="module")
def synthesize(synthesize_here, file):
    """Synthesize into a folder, in this process; it must end with this code."""

    def call(folder, *words, code=0):
        done = synthesize_here(*TINY, f"sentences={file}", f"hydra.run.dir={folder}", *words)
        assert done.returncode == code, done.stdout + done.stderr
        return SynthesisDir(folder), done

    return call


@pytest.fixture(scope="module")
def whole(synthesize, tmp_path_factory):
    """All 40 sentences, in parts of 3."""
    return synthesize(tmp_path_factory.mktemp("whole"), "part_size=3", "batch_size=2")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def content(folder):
    """Every file but the manifest, whose command names the folder."""
    files = (
        path for path in folder.path.rglob("*") if path.is_file() and path.name not in ("manifest.json", "config.yaml")
    )
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in files}


def test_every_output_is_kept_or_rejected_and_told(whole, sentences):
    folder, done = whole
    rows, rejected, manifest = lines(folder.rows), lines(folder.rejected), json.loads(folder.manifest.read_text())
    assert len(rows) > 5
    assert len(rows) + len(rejected) == 40
    assert {row["anchor"] for row in (*rows, *rejected)} == set(sentences[:40])
    assert {row["prompt"] for row in (*rows, *rejected)} == TRANSFORMATIONS
    assert all(len(row["chosen"]) == len(row["cosines"]) == 1 and row["rejected"] == [] for row in rows)
    counts = manifest["counts"]
    assert counts["outputs"] == counts["kept"] + sum(counts["rejected"].values()) == 40
    assert counts["kept"] == counts["rows"] == len(rows)
    assert manifest["sentences"]["texts"] == 40
    assert manifest["prompts"].keys() == TRANSFORMATIONS
    table = [line for line in done.stdout.splitlines() if line.startswith(("┏", "┃", "┡", "│", "└", "├"))]
    assert len(table) > 12
    assert max(map(len, table)) <= 80
    for name, number in {"sentences": 40, "outputs": 40, "kept": len(rows), "rows": len(rows)}.items():
        assert any(line.split() == ["│", name, "│", str(number), "│"] for line in table)
    for reason, number in counts["rejected"].items():
        assert any(line.split()[1:-1] == ["rejected:", *reason.split(), "│", str(number)] for line in table)
    assert f"train data=rows data.path={folder.rows} objective=contrastive" in done.stdout


def test_a_sentence_gets_the_same_outputs_in_any_company(whole, synthesize, file, tmp_path):
    other = tmp_path / "other.jsonl"
    texts = file.read_text().splitlines()[30:10:-1]
    other.write_text("".join(json.dumps({"premise": text}) + "\n" for text in [*texts, "Something else."]))
    folder, _ = synthesize(tmp_path / "run", f"sentences={other}", "column=premise", "limit=20", "batch_size=7")

    def outputs(folder):
        kept = {(row["anchor"], row["prompt"], text) for row in lines(folder.rows) for text in row["chosen"]}
        return kept | {(row["anchor"], row["prompt"], row["text"]) for row in lines(folder.rejected)}

    assert outputs(folder) == {output for output in outputs(whole[0]) if output[0] in texts}
    assert len(outputs(folder)) == 20


def test_another_seed_writes_something_else(whole, synthesize, tmp_path):
    folder, _ = synthesize(tmp_path, "limit=10", "seed=1", "model.seed=0")
    texts = [{row["chosen"][0] for row in lines(one.rows)} for one in (folder, whole[0])]
    assert not texts[0] & texts[1]


def test_a_killed_synthesis_goes_on_and_ends_with_the_same_bytes(whole, synthesize_here, file, tmp_path):
    folder = SynthesisDir(tmp_path / "killed")
    words = [*TINY, f"sentences={file}", f"hydra.run.dir={folder.path}", "part_size=3", "batch_size=2"]
    call = [sys.executable, "-m", "sempa_lightning.synthesize", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        while not folder.part(1).is_file() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
    done = sorted(path.name for path in folder.part(0).parent.glob("*.jsonl"))
    assert 2 <= len(done) < 14
    assert not folder.rows.exists()
    folder.part(13).with_name(".00013.jsonl.99").write_text('{"anchor": "half a li')  # as a kill may leave it
    untouched = {name: folder.part(0).with_name(name).stat().st_mtime_ns for name in done}
    assert synthesize_here(*words).returncode == 0
    assert {name: folder.part(0).with_name(name).stat().st_mtime_ns for name in done} == untouched
    assert content(folder) == content(whole[0])
    counts = [json.loads(one.manifest.read_text())["counts"] for one in (folder, whole[0])]
    assert counts[0] == counts[1]
    before = content(folder)
    assert synthesize_here(*words, "device=cpu").returncode == 0  # all is there: nothing to do
    assert synthesize_here(f"resume={folder.path}").returncode == 0
    assert content(folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_synthesis_tells_how_to_go_on(file, tmp_path, number):
    folder = SynthesisDir(tmp_path / "stopped")
    words = [*TINY, f"sentences={file}", f"hydra.run.dir={folder.path}", "part_size=1", "outputs_per_prompt=20"]
    call = [sys.executable, "-m", "sempa_lightning.synthesize", *words]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not folder.part(0).is_file() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (75, "")
    assert stdout.endswith(f"stopped: resume={folder.path} goes on\n")
    assert not folder.rows.exists()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("seed=1", "holds something else already, with another model, seed"),
        ("filters.length.high=3.0", "holds something else already, with another filters"),
        ("limit=5", "holds something else already, with another limit"),
    ],
)
def test_another_config_in_the_same_folder_is_refused(whole, synthesize, word, expected):
    before = content(whole[0])
    _, done = synthesize(whole[0].path, "part_size=3", "batch_size=2", word, code=1)
    assert done.stderr.startswith(f"error: {whole[0].path} {expected}: name a new folder with hydra.run.dir=…")
    assert content(whole[0]) == before


def test_other_sentences_in_the_same_folder_are_refused(synthesize, tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text("A cat sleeps on the mat.\nA dog barks at the moon.\n")
    folder, _ = synthesize(tmp_path / "run", f"sentences={path}")
    path.write_text("A cat sleeps on the mat.\n")
    _, done = synthesize(folder.path, f"sentences={path}", code=1)
    assert done.stderr.startswith(f"error: {path} holds other sentences than when {folder.path} was begun")


def test_a_resumed_synthesis_keeps_its_config(whole, synthesize_here):
    done = synthesize_here(f"resume={whole[0].path}", "seed=3")
    assert done.returncode == 1
    assert "a resumed run keeps its config: drop seed=3; only device may change" in done.stderr


@pytest.fixture
def train_on(here):
    """Train for some steps, in this process."""

    def call(folder, *words):
        small = ["model=tiny_random", "data.train.dev=0.3", "trainer.max_steps=3", "trainer.val_check_interval=3"]
        # The demonstration tasks that a training run is measured by are not what is tested here.
        quick = ["eval=[]", "callbacks=none", "samples.max_new_tokens=2", f"paths.cache_dir={folder}/cache"]
        return here(*small, *quick, f"hydra.run.dir={folder}/run", *words)

    return call


def test_pairs_train_a_contrastive_objective(whole, train_on, tmp_path):
    done = train_on(tmp_path, "data=rows", f"data.path={whole[0].rows}", "objective=contrastive", "data.batch_size=4")
    assert done.returncode == 0, done.stderr
    losses = [line["train/loss"] for line in lines(tmp_path / "run" / "metrics.jsonl") if "train/loss" in line]
    assert len(losses) == 3
    assert all(loss > 0 for loss in losses)
    counts = json.loads((tmp_path / "run" / "manifest.json").read_text())["data"]
    assert counts["train"]["kept"] + counts["dev"]["kept"] == len(lines(whole[0].rows))
    assert counts["train"]["candidates"].keys() == {"1"}


def test_pairs_cannot_train_a_preference(whole, train_on, tmp_path):
    done = train_on(tmp_path, "data=rows", f"data.path={whole[0].rows}", "objective=preference")
    assert done.returncode == 1
    assert "no usable row in the data" in done.stderr
    assert "no rejected" in done.stderr


def test_rankings_follow_the_model_s_own_cosines_and_train_a_preference(synthesize, train_on, compose_here, tmp_path):
    words = ["rows=ranked", "outputs_per_prompt=5", "rows.top=2", "limit=12", "part_size=5"]
    folder, done = synthesize(tmp_path / "run", *words)
    rows = lines(folder.rows)
    assert len(rows) >= 8
    assert "rejected: neither" not in done.stdout
    encode = compose_here("model=tiny_random")
    for row in rows:
        texts = [*row["chosen"], *row["rejected"]]
        vectors = encode([row["anchor"], *texts])
        cosines = torch.cosine_similarity(vectors[:1], vectors[1:]).tolist()
        assert cosines == pytest.approx(row["cosines"], abs=2e-6)
        assert row["cosines"] == sorted(row["cosines"], reverse=True)
        assert (len(row["chosen"]), row["prompt"]) == (2, "paraphrase")
        assert len(texts) == len(set(texts)) <= 5
    assert "objective=contrastive" not in done.stdout
    trained = train_on(tmp_path, "data=rows", f"data.path={folder.rows}", "objective=preference", "data.batch_size=4")
    assert trained.returncode == 0, trained.stderr


@pytest.fixture(scope="module")
def compose_here():
    """Build what embeds with a model and the default readout, without the command."""
    import hydra

    from sempa_lightning.entry import conf_dir, instantiate
    from sempa_lightning.models.embedder import Embedder

    def build(*words):
        with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
            cfg = hydra.compose("synthesize", list(words))
        model, tokenizer = instantiate(cfg.model)
        return Embedder(model.eval(), tokenizer, instantiate(cfg.readout)).encode

    return build


def test_a_sentence_that_leaves_no_room_is_told(synthesize, tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text("A cat sleeps on the mat.\n" + "A very long story. " * 80 + "\nA dog barks at the moon.\n")
    folder, _ = synthesize(tmp_path / "run", f"sentences={path}", "transformation=detail")
    assert json.loads(folder.manifest.read_text())["counts"]["rejected"]["too long to ask"] == 1
    assert len(lines(folder.rejected)) + len(lines(folder.rows)) == 3


def test_the_model_of_the_package_is_no_instruct_model(synthesize_here, file, tmp_path):
    """It runs to its end, and says what became of it."""
    folder = SynthesisDir(tmp_path)
    done = synthesize_here(
        "model=nano", f"sentences={file}", "limit=3", "sampling.max_new_tokens=16", f"hydra.run.dir={tmp_path}"
    )
    counts = json.loads(folder.manifest.read_text())["counts"]
    assert counts == {"outputs": 3, "kept": 0, "rows": 0, "rejected": counts["rejected"]}
    assert counts["rejected"]["unfinished"] >= 1
    assert done.returncode == 1
    told = ", ".join(f"{number} {reason}" for reason, number in counts["rejected"].items())
    assert done.stderr.startswith(
        f"error: nothing to train on: 3 outputs, 0 kept, rejected: {told}. {folder.rejected} "
    )
    assert len(lines(folder.rejected)) == 3
    assert not folder.rows.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sentences=null"], "which sentences? sentences=<"),
        (["sentences=/no/file.txt"], "sentences: no file /no/file.txt. Name a "),
        (["column=premise"], "record 1 has no column 'premise'; it has 'text': set column=<one>"),
        (["model=causal_lm"], "which model writes? model=<option> or model.path="),
        (["model=causal_lm", "model.path=/no/model"], "no folder /no/model"),
        (["transformation=[]"], "no prompt to ask with"),
        (["chat=true"], "the tokenizer has no chat template"),
        (["limit=0"], "limit: expected a whole number ≥ 1 or null, found 0"),
        (["batch_size=0"], "batch_size: expected a whole number ≥ 1, found 0"),
        (["sampling.top_p=0"], "top_p"),
        (["encoder=sentence_transformer", "encoder.path=/no/encoder"], "cannot load encoder.path=/no/encoder"),
        (["filters.length.hihg=3"], "hihg"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(synthesize, tmp_path, words, expected):
    folder, done = synthesize(tmp_path / "run", *words, code=1)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert not folder.begun
    assert not folder.rejected.exists()
