"""The folders that commands write: the one place that knows the names of the files in them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from sempa_lightning.checksums import fits_checksum
from sempa_lightning.errors import UserError
from sempa_lightning.files import read_lines, read_object, with_nonfinite, write_json, write_text
from sempa_lightning.masking import masked


class _Folder:
    """What the folders of all commands have in common.

    Args:
        path: The folder.
    """

    # Patterns of what a process that was killed leaves half-written (see `files.replacing`).
    _leftovers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """Resolved config."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, commit, hardware, command, and what the class tells."""
        return self.path / "manifest.json"

    def read_config(self) -> dict[str, Any]:
        """Read the resolved config; empty while there is none.

        Raises:
            UserError: If the file is no YAML, or holds something else than a mapping.
        """
        if not self.config.is_file():
            return {}
        try:
            content = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{self.config} is no YAML ({error}): restore it, or name a new folder") from error
        if not isinstance(content, dict):
            found = "nothing" if content is None else type(content).__name__
            raise UserError(f"{self.config}: expected a mapping, found {found}. Restore it, or name a new folder.")
        return content

    def read_groups(self, groups: Sequence[str]) -> dict[str, Any]:
        """Read the resolved config, which must have some groups.

        Raises:
            UserError: If the file is no YAML, or a group is missing or no mapping.
        """
        config = self.read_config()
        if missing := [group for group in groups if not isinstance(config.get(group), dict)]:
            raise UserError(f"{self.config}: {', '.join(missing)} missing. Restore it, or name another folder.")
        return config

    def read_manifest(self) -> dict[str, Any]:
        """Read the manifest; empty while there is none.

        Raises:
            UserError: If the file is no JSON object.
        """
        return read_object(self.manifest)

    def remove_leftovers(self) -> None:
        """Remove what processes that were killed have left half-written."""
        for pattern in self._leftovers:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class _Measured(_Folder):
    """What the folders of runs and of evaluations have in common."""

    @property
    def summary(self) -> Path:
        """One number for each key, such as `after/sts/demo/spearman`."""
        return self.path / "summary.json"

    def read_summary(self) -> dict[str, float]:
        """Read the numbers; empty while there are none.

        Raises:
            UserError: If the file is no JSON object.
        """
        return with_nonfinite(read_object(self.summary))


class RunDir(_Measured):
    """A run is a folder, and everything can be rebuilt from it alone; its manifest has the counts of its data, too."""

    _leftovers = (".metrics.jsonl.*", "checkpoints/.*.ckpt.*", ".adapter.*", ".model.*")

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
        return [with_nonfinite(line) for line in read_lines(self.metrics)]


class EvaluationDir(_Measured):
    """An evaluation is a folder: what each task gave for each subject, and what follows from it.

    A place is `<subject>/<suite>/<task>`. Its manifest names the tasks without data, too.
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
        return [with_nonfinite(line) for line in read_lines(self.followed)]

    def read_result(self, place: str) -> dict[str, Any]:
        """Read what a task gave; empty while it gave nothing.

        Raises:
            UserError: If the file is no JSON object, or does not fit its checksum.
        """
        path = self.result(place)
        content = read_object(path)
        if not fits_checksum(content, place):
            raise UserError(f"{path}: checksum wrong. Measure it again with evaluate resume={self.path}")
        return content

    def read_results(self) -> dict[str, dict[str, Any]]:
        """Read what all tasks gave so far, by place."""
        folder = self.path / "results"
        places = [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob("*.json"))]
        return {place: result for place in places if (result := self.read_result(place))}


class SynthesisDir(_Folder):
    """A synthesis is a folder: what a language model wrote, and the training rows that were made of it.

    Its manifest tells where the sentences come from, too, and, at the end, the counts.
    """

    _leftovers = (".*.jsonl.*", "parts/.*.jsonl.*")

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

    @property
    def begun(self) -> bool:
        """Whether outputs are there already."""
        return any(self.path.glob("parts/*.jsonl"))


class EmbeddingDir(_Folder):
    """The vectors of a corpus are a folder of parts, a file each.

    Once all are there, its manifest tells the counts and what corpus and weights are, too.
    """

    _leftovers = (".part-*.parquet.*",)

    def part(self, number: int) -> Path:
        """The vectors of one part of the corpus."""
        return self.path / f"part-{number:05}.parquet"

    def log(self, name: str) -> Path:
        """What a process of its own printed."""
        return self.path / "log" / f"{name}.txt"


class MiningDir(_Folder):
    """Rows with mined negatives are a folder, which `data=mined` reads.

    Its manifest has, for each part, counts, what was left out and why, and examples, too.
    """

    def rows(self, part: str) -> Path:
        """The rows of `train` or `dev`, one JSON object a line."""
        return self.path / f"{part}.jsonl"

    def begin(self, config: str) -> None:
        """Write the config.

        Raises:
            UserError: If the folder holds something else: a run, an evaluation, rows mined in another way.
        """
        if self.config.is_file() and self.config.read_bytes() != config.encode():
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
        asked = masked(list(words))
        if not self.words.is_file():
            if self.path.is_dir() and (taken := [path.name for path in self._folders if path.name.isdigit()]):
                raise UserError(
                    f"{self.path} holds {taken[0]}/, which is no run of a sweep that can go on: name a new folder with"
                    " hydra.sweep.dir=…"
                )
            write_json(self.words, asked)
            return
        if not resume:
            raise UserError(
                f"{self.path} holds a sweep already: sweep.resume={self.path} goes on with it, or name a new folder"
            )
        if (begun := self._read_words()) != asked:
            raise UserError(f"{self.path} was begun with other words: resume it with {' '.join(begun)}")

    def _read_words(self) -> list[str]:
        try:
            content = json.loads(self.words.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, list) or not all(isinstance(word, str) for word in content):
            raise UserError(f"{self.words}: expected a JSON list of overrides. Restore it, or begin a new sweep.")
        return content


def relocated(value: Any, old: str, new: str) -> Any:  # noqa: ANN401 (any nesting of plain values)
    """Replace the folder `old` by `new` wherever a nested value holds its path or that of something inside it."""
    if isinstance(value, dict):
        return {relocated(key, old, new): relocated(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [relocated(inner, old, new) for inner in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value.removeprefix(old)
    return value
