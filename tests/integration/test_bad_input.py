"""Whatever the user can put right is told in one line: what is wrong, where, and what to do."""

import json
import os
import re
import resource
import signal

import pytest
import torch

from sempa_lightning.artifacts import RunDir

ROW = {"sent0": "A cat sleeps.", "sent1": "A cat is asleep.", "hard_neg": "A dog barks."}


@pytest.fixture
def told(here, tiny_arguments, tmp_path):
    """Train, which must fail; returns the one line that says why."""

    def call(*words):
        done = here(*tiny_arguments, f"hydra.run.dir={tmp_path}/run", *words)
        assert done.returncode == 1
        return one_line(done.stderr)

    return call


def one_line(stderr):
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    return stderr.removeprefix("error: ").rstrip("\n")


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.jsonl", None, "no file {path}; give data.path=<a .csv, .tsv, .jsonl, .parquet, .txt, .json file>"),
        ("rows.xlsx", b"", "{path}: unknown kind of file; give one of .csv, .tsv, .jsonl, .parquet, .txt"),
        ("empty.jsonl", b"", "{path} is empty: it holds no record"),
        ("header.csv", b"sent0,sent1,hard_neg\n", "{path} is empty: it holds no record"),
        ("column.csv", b"sent0,sent1\na,b\n", "no column 'hard_neg'; it has 'sent0', 'sent1'"),
        ("binary.jsonl", bytes(range(256)), "{path}, line 2: not UTF-8 text"),
        ("zeros.csv", bytes(100), "{path}, line 1: binary data, not text"),
        ("binary.parquet", bytes(range(256)), "{path} is no parquet file"),
        ("latin.csv", "sent0,sent1,hard_neg\nZoë,b,c\n".encode("latin-1"), "{path}, line 2: not UTF-8 text"),
        ("broken.jsonl", jsonl(ROW) + b"{'sent0': 1}\n", "{path}, line 2: not JSON"),
        ("number.jsonl", jsonl(ROW, {**ROW, "sent0": 3}), "{path}, record 2: 'sent0' is int, not text"),
        ("rejected.jsonl", jsonl({**ROW, "hard_neg": ""}), "no usable row in the data: 1 rows read, 0 kept"),
    ],
)
def test_data_that_cannot_be_read(here, tiny_arguments, tmp_path, name, content, expected):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    words = [word for word in tiny_arguments if not re.match(r"data\.(train|dev)\.", word)]
    done = here(*words, "data=simcse", f"data.path={path}", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 1
    assert expected.format(path=path) in one_line(done.stderr)


def test_a_row_that_is_too_long_is_named(told):
    message = told("data.max_length=60")
    assert "row " in message
    assert "longer than 60 tokens; raise data.max_length" in message


def test_no_row_is_short_enough(told):
    message = told("data.max_length=10", "data.unfit=drop")
    assert "no row is left after tokenising: 41 rows read, 0 kept" in message


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data.max_lenght=3", "Could not override 'data.max_lenght'"),
        ("model=llama99", "Could not find 'model/llama99'"),
        ("loss", "loss"),
        ("+loss.gamma=1", "gamma"),
        ("loss._target_=sempa_lightning.losses.plackett_lace.PlackettLuce", "plackett_lace"),
        ("loss.beta=-0.1", "loss.beta=-0.1 is not above 0"),
        ("trainer=gpu", "no GPU is here that torch can use: choose trainer=cpu"),
        ("trainer.precision=12", "12"),
        ("adapter=saved", "adapter.path"),
        ("adapter=none", "reference=frozen"),
        ("monitor=eval/sts/dev/spearmann", "eval/sts/dev/spearmann"),
        ("seed=x", "seed: expected a whole number from 0 to 4294967295, found 'x'"),
        ("data.max_rejected=0", "data.max_rejected: expected a whole number ≥ 1 or null, found 0"),
        ("data.batch_size=0", "data.batch_size: expected a whole number ≥ 1, found 0"),
        ("data.negatives.in_batch=true", "data.negatives.in_batch: expected a whole number ≥ 0, found true"),
        ("data.negatives.in_batch=-1", "data.negatives.in_batch: expected a whole number ≥ 0, found -1"),
        ("data/negatives=none", "has no rejected candidate in its step, and a preference needs one"),
        ("data/negatives=random", "the last step of 41 train rows has a single one"),
        ("data.micro_batch_tokens=-1", "data.micro_batch_tokens: expected a whole number ≥ 1, found -1"),
        ("scoring.sequence_tokens=0", "scoring.sequence_tokens=0 is not a whole number above 0"),
    ],
)
def test_a_config_that_cannot_be(told, word, expected):
    assert expected in told(word)


def test_a_reference_to_nothing(told):
    assert told("+extra=${paths.datadir}") == "Interpolation key 'paths.datadir' not found"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["loss=sigmoid", "loss.label_smoothing=0.5"], "loss.label_smoothing=0.5 is not at least 0 and below 0.5"),
        (["loss=mpo", "loss.weights.bco=-1.0"], "loss.weights.bco=-1.0 is not above 0"),
        (["loss=ipo", "divergence=alpha"], "Ipo does not look at differences of log-ratios alone"),
        (["divergence=alpha", "divergence.alpha=0.0"], "divergence.alpha=0.0 is not above 0 and at most 1"),
        (["objective=preference", "objective.tail_weight=2.0"], "objective.tail_weight=2.0 is not from 0 to 1"),
        (["objective=preference", "objective.nll_weight=-1.0"], "objective.nll_weight=-1.0 is not at least 0"),
        (["objective=contrastive", "loss=ipo"], "loss=ipo changes nothing: this objective has no loss"),
        (
            ["objective=sft", "+divergence.alpha=0.5"],
            "+divergence.alpha=0.5 changes nothing: this objective has",
        ),
        (["objective=next_token"], "NextToken is trained on plain text, but the data are anchors with candidates"),
    ],
)
def test_losses_that_cannot_be(told, words, expected):
    assert expected in told(*words)


def test_data_that_an_objective_cannot_read(here):
    done = here("objective=contrastive", "data=wikipedia")
    assert done.returncode == 1
    assert "asks for data.negatives.given, but this data has no such key: choose another data" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model.path=/no/such/folder"], "no folder /no/such/folder: model.path is a folder"),
        (["model.path=nobody/no-such-model"], "cannot load nobody/no-such-model: "),
        (["model=llama3", "model.path=meta-llama/Meta-Llama-3-8B"], "cannot load meta-llama/Meta-Llama-3-8B: "),
        (["model.dtype=float99"], "model.dtype=float99"),
    ],
)
def test_a_model_that_is_not_here(told, words, expected):
    assert expected in told(*words)


def test_an_output_folder_that_cannot_be_made(told, tmp_path):
    (tmp_path / "file").write_text("")
    message = told(f"hydra.run.dir={tmp_path}/file/run")
    assert f"{tmp_path}/file" in message


def test_a_loss_that_is_not_finite_stops_before_a_checkpoint_is_harmed(told, tmp_path):
    """The first step has learning rate 0, the next one an absurd one; the dev rows show it."""
    from hydra.utils import instantiate

    message = told("optimizer.lr=1e30", "trainer.val_check_interval=1", "scheduler.warmup_ratio=0.1")
    run = RunDir(tmp_path / "run")
    ids = {row.id for row in instantiate(run.read_config()["data"]["dev"])}
    told_ids = re.fullmatch(r"the loss is not finite at step 2 for rows (.*): look at .*", message)
    assert told_ids
    assert set(told_ids[1].split(", ")) == ids
    for name in ("best", "last"):
        checkpoint = torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 1
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


@pytest.fixture
def small_disk():
    """A limit on the size of files, which stands for a full disk: it is below the size of a checkpoint."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_earlier_checkpoints_whole(train, here, tmp_path, request):
    run = train(tmp_path / "run")
    size = run.last_checkpoint.stat().st_size
    assert size > 100_000
    request.getfixturevalue("small_disk")
    done = here(f"resume={run.path}", "trainer.max_epochs=2")
    assert done.returncode == 1
    place = rf"{run.checkpoints}/(best|last)\.ckpt"
    assert re.match(rf"cannot write {place}: File too large; make room\. ", one_line(done.stderr))
    for name in ("best", "last"):
        checkpoint = torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] <= 6
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["best.ckpt", "last-1.ckpt", "last.ckpt"]


def test_an_adapter_that_fits_no_layer(told):
    message = told("adapter.target_modules=[nowhere]")
    assert message.startswith("adapter.target_modules=['nowhere'] does not fit this model: Target modules {'nowhere'}")


def test_an_adapter_that_no_gradient_reaches(told):
    """The readout is of the first layer, so nothing depends on the second."""
    message = told("objective=contrastive", "readout.layer=1")
    assert message.startswith("no gradient reaches base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.w")
    assert "choose an objective that uses them" in message


def test_metrics_that_find_no_room_are_told(train, here, tmp_path):
    """The log of a resumed run leads to a device that is always full."""
    run = train(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.checkpoints.iterdir()}
    run.metrics.unlink()
    run.metrics.symlink_to("/dev/full")
    done = here(f"resume={run.path}", "trainer.max_epochs=2")
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"cannot write {run.metrics}: No space left on device; make room. ")
    assert {path: path.read_bytes() for path in run.checkpoints.iterdir()} == before


def test_a_loader_process_that_dies_is_told(told, monkeypatch):
    from sempa_lightning.data.steps import StepDataset

    parent, take = os.getpid(), StepDataset.__getitem__

    def dying(dataset, step):
        if os.getpid() != parent and len(step) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(dataset, step)

    monkeypatch.setattr(StepDataset, "__getitem__", dying)
    assert told("data.num_workers=1").startswith("a process of this run died (DataLoader worker ")
