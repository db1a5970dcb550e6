"""The rows of a report: subjects of evaluation folders, named by what tells them apart, seeds together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sempa_lightning.artifacts import relocated
from sempa_lightning.evaluation.report.folder import BEFORE, Evaluation, Result

# What may differ between seeds of one and the same experiment.
_VOLATILE = {"seed", "paths", "run", "run_name", "logger", "callbacks", "hydra", "resume"}
_READOUTS = {
    ('This sentence : "{sentence}" means in one word:"', "last_token"): "prompt_eol",
    ("{sentence}", "mean"): "mean",
}


# Training runs that differ in more settings are called by their names.
_MOST_SETTINGS = 3
# Letters of a readout in the name of a row.
_LONGEST_READOUT = 40


@dataclass(frozen=True)
class Measured:
    """A subject of an evaluation."""

    evaluation: Evaluation
    subject: str

    @property
    def results(self) -> Mapping[str, Result]:
        """Results by `suite/task`."""
        return self.evaluation.results.get(self.subject, {})

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it."""
        return str(self.evaluation.path), self.subject


@dataclass(frozen=True, eq=False)
class Row:
    """What is shown as one row: a subject, or the seeds of one.

    Attributes:
        label: Its name.
        members: One for each seed.
    """

    label: str
    members: tuple[Measured, ...]

    @property
    def trained(self) -> bool:
        """Whether it is more than a base model."""
        return self.members[0].subject != BEFORE

    @property
    def facets(self) -> dict[str, str]:
        """Facets of the first member."""
        return facets(self.members[0].evaluation)


def facets(evaluation: Evaluation) -> dict[str, str]:
    """What a person calls an evaluation by: model, run, readout, layer, seed; what is not known is left out."""
    model = evaluation.setting("model")
    readout = evaluation.setting("readout")
    run = evaluation.config.get("run")
    config = evaluation.run_config or evaluation.config
    known = {
        "model": model.get("path") or model.get("name") or str(model.get("_target_", "")).rpartition(".")[2],
        "run": "/".join(Path(run).parts[-2:]) if isinstance(run, str) else None,
        "checkpoint": evaluation.config.get("checkpoint"),
        "readout": _readout_name(evaluation, readout),
        "layer": readout.get("layer"),
        "seed": config.get("seed", evaluation.manifest.get("seed")),
    }
    return {
        name: str(value).replace("-", "−") if name == "layer" else str(value)
        for name, value in known.items()
        if value not in (None, "")
    }


def make_rows(evaluations: Sequence[Evaluation]) -> list[Row]:
    """Rows in the order of the evaluations, base models first; base models that measured the same are one row."""
    groups = _seed_groups(evaluations)
    names = _labels(groups)
    rows = []
    for group, name in zip(groups, names, strict=True):
        subjects = dict.fromkeys(subject for evaluation in group for subject in evaluation.results)
        for subject in sorted(subjects, key=lambda subject: subject != BEFORE):
            members = tuple(Measured(evaluation, subject) for evaluation in group if subject in evaluation.results)
            if subject == BEFORE and all(_same(members[0], member) for member in members):
                members = members[:1]
            rows.append(Row(_row_label(subject, name, group, len(members)), members))
    bases: list[Row] = []
    for row in rows:
        if not row.trained and not any(_twins(row, base) for base in bases):
            bases.append(row)
    return _distinct([*bases, *(row for row in rows if row.trained)])


def seeds(row: Row) -> list[str]:
    """Seeds of a row's members."""
    return [facets(member.evaluation).get("seed", "?") for member in row.members]


def shortened(text: str, longest: int) -> str:
    """The beginning of a text that has more letters than so many."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _readout_name(evaluation: Evaluation, readout: Mapping[str, Any]) -> str | None:
    """The option that the command line chose, with what it changed in it; else what the readout consists of."""
    words = evaluation.manifest.get("overrides")
    chosen = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word) if isinstance(words, list) else {}
    if "readout" in chosen:
        changed = [value for key, value in chosen.items() if key.startswith("readout.") and key != "readout.layer"]
        return ", ".join([chosen["readout"], *changed])
    template, pooling = readout.get("template") or {}, readout.get("pooling") or {}
    text = template.get("text") if isinstance(template, dict) else None
    pooled = str(pooling.get("_target_", "")).rpartition(".")[2] if isinstance(pooling, dict) else ""
    if text is None:
        return str(readout["_target_"]).rpartition(".")[2] if "_target_" in readout else None
    steering = readout.get("steering")
    steered = [str(steering.get("_target_")).rpartition(".")[2]] if isinstance(steering, dict) else []
    return ", ".join([_READOUTS.get((text, pooled), f"{text} ({pooled})"), *steered])


def _seed_groups(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        groups.setdefault(_without_seed(evaluation), []).append(evaluation)
    separate = []
    for group in groups.values():
        distinct = len({facets(evaluation).get("seed") for evaluation in group}) == len(group)
        separate += [group] if distinct else [[evaluation] for evaluation in group]
    return sorted(separate, key=lambda group: evaluations.index(group[0]))


def _without_seed(evaluation: Evaluation) -> str:
    """What two evaluations have in common that differ in their seed alone."""
    here = _constant(evaluation.config, str(evaluation.path))
    there = (
        _constant(evaluation.run_config, str(evaluation.run.path)) if evaluation.run else evaluation.config.get("run")
    )
    return json.dumps([here, there, sorted(evaluation.results)], sort_keys=True, default=str)


def _constant(config: Mapping[str, Any], folder: str) -> Any:  # noqa: ANN401 (any nesting of plain values)
    written_to = (config.get("paths") or {}).get("run_dir", folder)
    return unseeded(
        relocated({name: value for name, value in config.items() if name not in _VOLATILE}, written_to, ".")
    )


def unseeded(value: Any) -> Any:  # noqa: ANN401 (any nesting of plain values)
    """A nested value without its seeds."""
    if isinstance(value, dict):
        return {
            name: unseeded(inner) for name, inner in value.items() if name != "seed" and not str(name).endswith("_seed")
        }
    return [unseeded(inner) for inner in value] if isinstance(value, list) else value


def _labels(groups: Sequence[Sequence[Evaluation]]) -> list[dict[str, str]]:
    """For each group the facets in which groups differ; its folder's name where they do not tell groups apart."""
    known = [facets(group[0]) for group in groups]
    for named, group in zip(known, groups, strict=True):
        if len(group) > 1:
            named.pop("seed", None)
            named.pop("run", None)
        named.update(_own_settings(group[0], groups))
    names = list(dict.fromkeys(name for named in known for name in named))
    differing = [name for name in names if len({named.get(name) for named in known}) > 1]
    for needless in ("seed", "run"):  # what the others tell apart already
        rest = [name for name in differing if name != needless]
        if len({tuple(named.get(name) for name in rest) for named in known}) == len(known):
            differing = rest
    labels = [{name: named[name] for name in differing if name in named} for named in known]
    shown = [tuple(label.values()) for label in labels]
    return [
        label if shown.count(tuple(label.values())) == 1 else {**label, "folder": group[0].path.name}
        for label, group in zip(labels, groups, strict=True)
    ]


def _own_settings(evaluation: Evaluation, groups: Sequence[Sequence[Evaluation]]) -> dict[str, str]:
    """The few settings in which training runs differ; none if they differ in many."""
    settings = [flat(unseeded(dict(group[0].run_config))) for group in groups if group[0].run]
    own = flat(unseeded(dict(evaluation.run_config)))
    keys = dict.fromkeys(key for setting in settings for key in setting)
    differing = [
        key
        for key in keys
        if key.partition(".")[0] not in _VOLATILE and len({setting.get(key) for setting in settings}) > 1
    ]
    return {key: own[key] for key in differing if key in own} if len(differing) <= _MOST_SETTINGS else {}


def flat(value: Any, key: str = "") -> dict[str, str]:  # noqa: ANN401 (any nesting of plain values)
    """The innermost values of nested mappings as text, each by its dotted key."""
    if isinstance(value, dict):
        return {inner: text for name, part in value.items() for inner, text in flat(part, f"{key}.{name}").items()}
    return {key.removeprefix("."): str(value)}


def _row_label(subject: str, name: Mapping[str, str], group: Sequence[Evaluation], count: int) -> str:
    words = {key: _word(key, value) for key, value in name.items()}
    if subject == BEFORE:
        bare = all(list(evaluation.results) == [BEFORE] for evaluation in group)
        parts = [words[key] for key in words if bare or key in ("model", "readout", "layer")]
        first = [] if bare and parts else ["base" if bare else "before"]
        return " · ".join([*first, *parts])
    label = " · ".join([subject, *words.values()])
    return f"{label} ({count} seeds)" if count > 1 else label


def _word(key: str, value: str) -> str:
    if key == "model":
        return Path(value).name
    if key.endswith("_target_"):
        return value.rpartition(".")[2]
    if key == "readout":
        return shortened(value, _LONGEST_READOUT)
    return value if key in ("run", "checkpoint", "folder") else f"{key} {value}"


def _same(one: Measured, other: Measured) -> bool:
    """Whether two subjects have the same numbers, to six digits."""

    def rounded(measured: Measured) -> dict[str, dict[str, str]]:
        return {
            task: {name: f"{value:.6g}" for name, value in result.metrics.items()}
            for task, result in measured.results.items()
        }

    return rounded(one) == rounded(other)


def _twins(row: Row, base: Row) -> bool:
    """Whether two base rows are one model, read in one way, with the same numbers."""
    named = [{name: each.facets.get(name) for name in ("model", "readout", "layer")} for each in (row, base)]
    return named[0] == named[1] and _same(row.members[0], base.members[0])


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Number rows that would have the same label."""
    labels = [row.label for row in rows]
    return [
        Row(f"{row.label} [{labels[:place].count(row.label) + 1}]", row.members) if labels.count(row.label) > 1 else row
        for place, row in enumerate(rows)
    ]
