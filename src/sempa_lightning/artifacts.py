"""The folders of runs, evaluations, embeddings, syntheses and sweeps: the one place that knows their files' names."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from sempa_lightning.errors import UserError


class _Folder:
    """What folders of runs and of evaluations have in common.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """Resolved config."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, commit, seed, hardware, command; a run's counts of data, an evaluation's tasks without data."""
        return self.path / "manifest.json"

    @property
    def summary(self) -> Path:
        """One number for each key, such as `after/sts/demo/spearman`."""
        return self.path / "summary.json"

    def read_config(self) -> dict[str, Any]:
        """Read the resolved config; empty while there is none."""
        try:
            content = yaml.safe_load(self.config.read_text(encoding="utf-8")) if self.config.is_file() else {}
        except yaml.YAMLError as error:
            raise UserError(f"{self.config} is no YAML ({error}): remove its folder, or write it again") from error
        return content if isinstance(content, dict) else {}

    def read_manifest(self) -> dict[str, Any]:
        """Read the manifest; empty while there is none."""
        return _read_object(self.manifest)

    def read_summary(self) -> dict[str, float]:
        """Read the numbers; empty while there are none."""
        return _read_object(self.summary)


class RunDir(_Folder):
    """A run is a folder, and everything can be rebuilt from it alone."""

    @classmethod
    def existing(cls, path: str | Path) -> "RunDir":
        """Open the folder of a run that has started.

        Raises:
            UserError: If it is no run folder.
        """
        run = cls(path)
        if not run.config.is_file():
            raise UserError(f"{path} is no run folder: it has no config.yaml")
        return run

    @property
    def metrics(self) -> Path:
        """Logged metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of training checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that training resumes from."""
        return self.earlier_checkpoint(0)

    def earlier_checkpoint(self, age: int) -> Path:
        """The checkpoint that was the last one `age` checkpoints ago."""
        return self.checkpoints / (f"last-{age}.ckpt" if age else "last.ckpt")

    @property
    def resumable_checkpoints(self) -> list[Path]:
        """The last checkpoints that are there, newest first."""
        return sorted(self.checkpoints.glob("last*.ckpt"), key=lambda path: (len(path.name), path.name))

    @property
    def adapter(self) -> Path:
        """The trained adapter, in PEFT format."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The trained model where all weights were trained, in Hugging Face format."""
        return self.path / "model"

    @property
    def export(self) -> Path:
        """What `python -m sempa_lightning.export` writes, unless told otherwise."""
        return self.path / "export"

    @property
    def picture(self) -> Path:
        """How training went and what it did, to look at."""
        return self.path / "before_after.png"

    @property
    def pictures(self) -> dict[str, Path]:
        """All pictures that there are, by name, such as `before_after` or `attention/demo`."""
        found = sorted([*self.path.glob("*.png"), *self.path.glob("pictures/**/*.png")])
        names = [path.relative_to(self.path).with_suffix("").as_posix().removeprefix("pictures/") for path in found]
        return dict(zip(names, found, strict=True))

    @property
    def trial(self) -> Path:
        """For a run of a sweep: what was chosen for it, and what became of it."""
        return self.path / "trial.json"

    @property
    def output(self) -> Path:
        """What the run printed, where a sweep started it."""
        return self.path / "output.txt"

    def evaluation(self, suite: str) -> Path:
        """Results of one evaluation suite."""
        return self.path / "eval" / f"{suite}.json"

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the logged metrics, oldest first; empty while there are none."""
        return _read_lines(self.metrics)

    def remove_leftovers(self) -> None:
        """Remove what processes that were killed have left half-written (see `replacing`)."""
        for path in (*self.path.glob(".metrics.jsonl.*"), *self.checkpoints.glob(".*.ckpt.*")):
            path.unlink(missing_ok=True)


class EvaluationDir(_Folder):
    """An evaluation is a folder: what each task gave for each subject, and what follows from it.

    A place is `<subject>/<suite>/<task>`.
    """

    @property
    def followed(self) -> Path:
        """Numbers of the checkpoints of a run that was followed, one JSON object a line."""
        return self.path / "followed.jsonl"

    @property
    def claims(self) -> Path:
        """Folder of the claims by which processes share the tasks; gone at the end."""
        return self.path / "claims"

    def result(self, place: str) -> Path:
        """What a task gave: `metrics`, `notes` and `seconds`, or `failed`."""
        return self.path / "results" / f"{place}.json"

    def items(self, place: str) -> Path:
        """What a task measured, one value for each item."""
        return self.path / "items" / f"{place}.safetensors"

    def picture(self, task: str) -> Path:
        """What a task drew of all subjects, the task as `<suite>/<task>`."""
        return self.path / "pictures" / f"{task}.png"

    def log(self, name: str) -> Path:
        """Why a task failed, or what a process of its own printed."""
        return self.path / "log" / f"{name}.txt"

    def read_followed(self) -> list[dict[str, Any]]:
        """Read the numbers of checkpoints, oldest first; empty while there are none."""
        return _read_lines(self.followed)

    def read_result(self, place: str) -> dict[str, Any]:
        """Read what a task gave; empty while it gave nothing."""
        return _read_object(self.result(place))

    def read_results(self) -> dict[str, dict[str, Any]]:
        """Read what all tasks gave so far, by place."""
        folder = self.path / "results"
        places = [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob("*.json"))]
        return {place: result for place in places if (result := self.read_result(place))}


class SynthesisDir:
    """A synthesis is a folder: what a language model wrote, and the training rows that were made of it.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """Resolved config."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, commit, hardware, command, where the sentences come from and, at the end, the counts."""
        return self.path / "manifest.json"

    @property
    def rows(self) -> Path:
        """Training rows, one JSON object a line; not there if no output was kept."""
        return self.path / "rows.jsonl"

    @property
    def rejected(self) -> Path:
        """Outputs that are in no row, with the reason, one JSON object a line."""
        return self.path / "rejected.jsonl"

    def part(self, number: int) -> Path:
        """All outputs for one part of the sentences."""
        return self.path / "parts" / f"{number:05}.jsonl"

    def read_config(self) -> dict[str, Any]:
        """Read the resolved config; empty while there is none."""
        config: dict[str, Any] = yaml.safe_load(self.config.read_text()) if self.config.is_file() else {}
        return config

    def read_manifest(self) -> dict[str, Any]:
        """Read the manifest; empty while there is none."""
        manifest: dict[str, Any] = json.loads(self.manifest.read_text()) if self.manifest.is_file() else {}
        return manifest

    @property
    def begun(self) -> bool:
        """Whether outputs are there already."""
        return any(self.path.glob("parts/*.jsonl"))

    def remove_leftovers(self) -> None:
        """Remove what processes that were killed have left half-written (see `replacing`)."""
        for path in (*self.path.glob(".*.jsonl.*"), *self.path.glob("parts/.*.jsonl.*")):
            path.unlink(missing_ok=True)


class EmbeddingDir:
    """The vectors of a corpus are a folder of parts, a file each.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """Resolved config: the corpus, the model and how it is read out."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Once all parts are there: versions, commit, hardware, command, counts, what corpus and weights are."""
        return self.path / "manifest.json"

    def part(self, number: int) -> Path:
        """The vectors of one part of the corpus."""
        return self.path / f"part-{number:05}.parquet"

    def log(self, name: str) -> Path:
        """What a process of its own printed."""
        return self.path / "log" / f"{name}.txt"

    def read_config(self) -> dict[str, Any]:
        """Read the resolved config; empty while there is none."""
        config: dict[str, Any] = yaml.safe_load(self.config.read_text()) if self.config.is_file() else {}
        return config

    def remove_leftovers(self) -> None:
        """Remove what processes that were killed have left half-written (see `replacing`)."""
        for path in self.path.glob(".part-*.parquet.*"):
            path.unlink(missing_ok=True)


class MiningDir:
    """Rows with mined negatives are a folder, which `data=mined` reads.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """Resolved config: the model, the rows, the window."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, commit, hardware, command; for each part counts, what was left out and why, and examples."""
        return self.path / "manifest.json"

    def rows(self, part: str) -> Path:
        """The rows of `train` or `dev`, one JSON object a line."""
        return self.path / f"{part}.jsonl"

    def begin(self, config: str) -> None:
        """Write the config.

        Raises:
            UserError: If the folder holds something else: a run, an evaluation, rows mined in another way.
        """
        if self.config.is_file() and self.config.read_text(encoding="utf-8") != config:
            raise UserError(f"{self.path} holds something else already: name a new folder with hydra.run.dir=…")
        write_text(self.config, config)


class SweepDir:
    """A sweep is a folder of the numbered folders of its runs, or of its evaluations.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def existing(cls, path: str | Path) -> "SweepDir":
        """Open the folder of a sweep that can be resumed.

        Raises:
            UserError: If it is none.
        """
        sweep = cls(path)
        if not sweep.words.is_file():
            raise UserError(f"{path} is no sweep of runs: it has no {sweep.words.name}")
        return sweep

    @property
    def words(self) -> Path:
        """What the command line that began it asks of its runs."""
        return self.path / "sweep.json"

    @property
    def study(self) -> Path:
        """Optuna's storage, where Optuna chooses the runs."""
        return self.path / "optuna.db"

    @property
    def table(self) -> Path:
        """All numbers of all runs or evaluations: a line for each, a column for each number."""
        return self.path / "sweep.csv"

    def run(self, number: int) -> RunDir:
        """One of its runs."""
        return RunDir(self.path / str(number))

    @property
    def runs(self) -> list[RunDir]:
        """The runs that have begun or wait, in the order of their numbers."""
        return [run for run in map(RunDir, self._folders) if run.trial.is_file()]

    @property
    def evaluations(self) -> list[EvaluationDir]:
        """The evaluations in the order of their numbers."""
        return [EvaluationDir(path) for path in self._folders]

    @property
    def _folders(self) -> list[Path]:
        folders = [path for path in self.path.iterdir() if path.is_dir()]
        return sorted(folders, key=lambda path: (int(path.name) if path.name.isdigit() else -1, path.name))

    def begin(self, words: Sequence[str], *, resume: bool) -> None:
        """Write down what the command asks, or make sure that a resumed sweep is asked the same.

        Raises:
            UserError: If the folder holds another sweep, one that is not to be resumed, or numbered folders of
                something else, which its runs would begin by emptying.
        """
        if not self.words.is_file():
            if self.path.is_dir() and (taken := [path.name for path in self._folders if path.name.isdigit()]):
                raise UserError(
                    f"{self.path} holds {taken[0]}/, which is no run of a sweep that can go on: name a new folder with"
                    " hydra.sweep.dir=…"
                )
            write_json(self.words, list(words))
            return
        if not resume:
            raise UserError(
                f"{self.path} holds a sweep already: sweep.resume={self.path} goes on with it, or name a new folder"
            )
        if (begun := json.loads(self.words.read_text())) != list(words):
            raise UserError(f"{self.path} was begun with other words: resume it with {' '.join(begun)}")


def relocated(value: Any, old: str, new: str) -> Any:  # noqa: ANN401 (any nesting of plain values)
    """Replace the folder `old` by `new` wherever a nested value holds its path or that of something inside it."""
    if isinstance(value, dict):
        return {relocated(key, old, new): relocated(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [relocated(inner, old, new) for inner in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value.removeprefix(old)
    return value


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty while there is no such file.

    Raises:
        UserError: If the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}): remove it, and run again what wrote it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: remove it, and run again what wrote it")
    return content


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one a line; whole lines only, for a process may be writing one, or have died in one."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = []
    for line in text.splitlines(keepends=True):
        if line.endswith("}\n"):
            with suppress(ValueError):
                lines.append(json.loads(line))
    return lines


def write_json(path: Path, content: object) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a text file so that a reader sees the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error in writing name the path that a person knows: a full disk names none, others a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
    except Exception as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):  # so writers in Rust tell an error of the system
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        if isinstance(error, SafetensorError):
            raise OSError(errno.EIO, str(error), str(path)) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary path beside `path` and move it there when the block ends well, safe from a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with naming(path):
            yield temporary
            flush(temporary)
            temporary.replace(path)
            flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk itself before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks have no such operation, for folders above all
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Lend a new, empty folder beside `path` and put it in its place when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with naming(path):
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
