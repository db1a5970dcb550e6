import pytest

from sempa_lightning.artifacts import EmbeddingDir, EvaluationDir, MiningDir, RunDir, SweepDir, SynthesisDir
from sempa_lightning.errors import UserError
from sempa_lightning.files import replacing
from sempa_lightning.sweeps.trial import Trial, recorded

KINDS = [RunDir, EvaluationDir, EmbeddingDir, SynthesisDir, MiningDir]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_files_reads_as_empty(kind, tmp_path):
    folder = kind(tmp_path)
    assert (folder.read_config(), folder.read_manifest()) == ({}, {})
    if kind in (RunDir, EvaluationDir):
        assert folder.read_summary() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_told(kind, tmp_path):
    folder = kind(tmp_path)
    folder.config.write_text("a: [")
    folder.manifest.write_text("[1")
    with pytest.raises(UserError, match=r"config\.yaml is no YAML"):
        folder.read_config()
    with pytest.raises(UserError, match=r"manifest\.json is no JSON"):
        folder.read_manifest()


@pytest.mark.parametrize("content", [b"", b"- a", b"a: \xff", b"\0", b"[" * 500, b"a: b: c"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_config_that_is_no_mapping_is_named(kind, tmp_path, content):
    folder = kind(tmp_path)
    folder.config.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml.*(is no YAML|expected a mapping, found (nothing|list))"):
        folder.read_config()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"a": 1}', b"[1]", b"\xff", b"[" * 100_000])
def test_a_damaged_record_of_a_sweep_is_named(tmp_path, content):
    sweep = SweepDir(tmp_path)
    sweep.words.write_bytes(content)
    with pytest.raises(UserError, match=r"sweep\.json: expected a JSON list of overrides"):
        sweep.begin(["seed=1,2"], resume=True)
    run = sweep.run(0)
    run.path.mkdir()
    run.trial.write_bytes(content)
    with pytest.raises(UserError, match=r"trial\.json"):
        recorded(run)


def test_a_trial_has_a_state_that_there_is(tmp_path):
    run = SweepDir(tmp_path).run(3)
    run.path.mkdir()
    Trial(run, ("seed=1",)).became("done")
    assert recorded(run).state == "done"
    run.trial.write_text(run.trial.read_text().replace("done", "dome"))
    with pytest.raises(UserError, match=r"trial\.json: state is 'dome'"):
        recorded(run)


@pytest.mark.parametrize(
    "path",
    [
        lambda folder: RunDir(folder).metrics,
        lambda folder: RunDir(folder).last_checkpoint,
        lambda folder: SynthesisDir(folder).rows,
        lambda folder: SynthesisDir(folder).part(0),
        lambda folder: EmbeddingDir(folder).part(0),
    ],
)
def test_what_a_killed_process_left_is_removed(path, tmp_path):
    path = path(tmp_path)
    with replacing(path) as temporary:
        temporary.touch()
    temporary.touch()
    for kind in (RunDir, SynthesisDir, EmbeddingDir):
        kind(tmp_path).remove_leftovers()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    run, evaluation = RunDir(tmp_path), EvaluationDir(tmp_path)
    assert (run.read_metrics(), evaluation.read_followed()) == ([], [])
    for path in (run.metrics, evaluation.followed):
        path.write_text('{"step": 1, "train/loss": 0.5}\n{"step": 2, "tra')
    assert run.read_metrics() == evaluation.read_followed() == [{"step": 1, "train/loss": 0.5}]


def test_results_by_place(tmp_path):
    folder = EvaluationDir(tmp_path)
    assert folder.read_result("before/sts/demo") == {}
    path = folder.result("before/sts/demo")
    path.parent.mkdir(parents=True)
    path.write_text('{"metrics": {"spearman": 0.5}}')
    assert folder.read_results() == {"before/sts/demo": {"metrics": {"spearman": 0.5}}}
