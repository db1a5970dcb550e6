"""What was measured: models, readouts, seeds, commits, hardware."""

from collections.abc import Mapping, Sequence

from sempa_lightning.evaluation.report.folder import Evaluation, names_below
from sempa_lightning.evaluation.report.rows import facets
from sempa_lightning.evaluation.report.table import Line, Table, text_cell

_FACETS = ("model", "run", "checkpoint", "readout", "layer", "seed")


def subjects_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """What all folders share, then a line for each folder with what it has of its own."""
    facts = [_facts(evaluation) for evaluation in evaluations]
    names = list(dict.fromkeys(name for known in facts for name in known))
    own = [name for name in names if len({known.get(name) for known in facts}) > 1]
    shared = tuple(Line(name, (text_cell(facts[0].get(name)),)) for name in names if name not in own)
    tables = [Table("measured", "What was measured", ("",), shared, textual=True)]
    if own:
        above, folders = names_below([evaluation.path for evaluation in evaluations])
        columns = tuple(name for name in own if name != "folder")
        lines = tuple(
            Line(folder, tuple(text_cell(known.get(name)) for name in columns))
            for folder, known in zip(folders, facts, strict=True)
        )
        tables.append(Table("folders", "Folders", columns, lines, "folder", notes=(f"In {above}.",), textual=True))
    return tables


def _facts(evaluation: Evaluation) -> dict[str, str]:
    named = facets(evaluation)
    known = {name: named[name] for name in _FACETS if name in named}
    template = evaluation.setting("readout").get("template")
    if isinstance(template, dict) and template.get("text"):
        known["prompt of the readout"] = str(template["text"])
    manifest = evaluation.manifest
    hardware = manifest.get("hardware")
    seconds = [
        result.seconds for results in evaluation.results.values() for result in results.values() if result.seconds
    ]
    known |= {
        "commit": str(manifest.get("commit") or "not known"),
        "command": str(manifest.get("command") or "not known"),
        "hardware": _hardware(hardware) if isinstance(hardware, dict) else "not known",
        "versions": ", ".join(f"{name} {number}" for name, number in (manifest.get("versions") or {}).items()),
        "time": f"{sum(seconds):.0f} s for {len(seconds)} measurements" if seconds else "",
        "folder": str(evaluation.path),
    }
    return {name: value for name, value in known.items() if value}


def _hardware(hardware: Mapping[str, object]) -> str:
    gpus = hardware.get("gpus")
    cards = ", ".join(map(str, gpus)) if isinstance(gpus, list) and gpus else "no GPU"
    machine, cpus, threads = (hardware.get(name, "?") for name in ("machine", "cpus", "threads"))
    return f"{machine}, CPUs: {cpus}, threads: {threads}, {cards}"
