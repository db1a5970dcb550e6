"""What tasks say beside their numbers: counts, texts, and what could not be measured."""

from collections.abc import Sequence

from sempa_lightning.evaluation.report.rows import Row, shortened
from sempa_lightning.evaluation.report.suite import family
from sempa_lightning.evaluation.report.table import Line, Table, text_cell

_LONGEST = 600


def failures_table(rows: Sequence[Row]) -> Table | None:
    """Tasks that failed or were left out, of which rows, and why."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for member in row.members:
            for task, result in member.results.items():
                if reason := result.failed or result.skipped:
                    what = "failed" if result.failed else "left out"
                    found.setdefault((task, what, _short(reason)), []).append(row.label)
    lines = [
        Line(task, (text_cell(what), text_cell(", ".join(dict.fromkeys(labels))), text_cell(reason)))
        for (task, what, reason), labels in found.items()
    ]
    columns = ("what", "of", "why")
    return Table("failures", "Not measured", columns, tuple(lines), stub="task", textual=True) if lines else None


def notes_table(rows: Sequence[Row]) -> Table | None:
    """Counts and remarks of each task, for the first seed of each row."""
    keys = dict.fromkeys(
        (task, key)
        for row in rows
        for task, result in row.members[0].results.items()
        for key, value in result.notes.items()
        if isinstance(value, str | int | float | bool) and key != "headline"
    )
    lines = []
    for task, key in keys:
        found = [row.members[0].results.get(task) for row in rows]
        cells = tuple(text_cell(_plain(result.notes.get(key)) if result else None) for result in found)
        lines.append(Line(key.replace("_", " "), cells, task))
    return Table("notes", "Notes of the tasks", tuple(row.label for row in rows), tuple(lines)) if lines else None


def example_tables(rows: Sequence[Row]) -> list[Table]:
    """A table for each note that shows texts: a line for each text, a column for each row, as SemPA's Table 7."""
    notes = dict.fromkeys(
        (task, key) for row in rows for task, result in row.members[0].results.items() for key in result.notes
    )
    tables = (_example_table(task, key, rows) for task, key in notes)
    return [table for table in tables if table is not None]


def _example_table(task: str, key: str, rows: Sequence[Row]) -> Table | None:
    results = {row.label: row.members[0].results.get(task) for row in rows}
    every = {label: _examples(result.notes.get(key) if result else None) for label, result in results.items()}
    found = {label: examples for label, examples in every.items() if examples}
    if not found:
        return None
    texts = dict.fromkeys(text for examples in found.values() for text in examples)
    lines = [Line(text, tuple(text_cell(_rest(examples.get(text))) for examples in found.values())) for text in texts]
    marked = any(isinstance(each, dict) and "own" in each for examples in found.values() for each in examples.values())
    suite, _, name = task.partition("/")
    title = f"{family(suite).title}, {name.replace('_', ' ')}: {key.replace('_', ' ')}"
    remarks = ("In brackets: tokens of the sentence itself.",) if marked else ()
    return Table(f"{suite}_{name}_{key}", title, tuple(found), tuple(lines), notes=remarks, textual=True)


def _examples(note: object) -> dict[str, object]:
    """What a note says by text: of a mapping, or of a list of mappings whose first value is the text.

    Empty for anything else, such as the tables of numbers behind a picture.
    """
    if isinstance(note, list) and note and all(isinstance(each, dict) and len(each) > 1 for each in note):
        note = {str(next(iter(each.values()))): dict(list(each.items())[1:]) for each in note}
    if not isinstance(note, dict) or not note or not all(_is_example(value) for value in note.values()):
        return {}
    texts: dict[str, object] = {_short(text): value for text, value in note.items()}
    return texts


def _is_example(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(part, str | int | float) or _is_words(part) for part in value.values())
    return isinstance(value, str) or _is_words(value)


def _is_words(value: object) -> bool:
    """Whether it is a list of words or flags, or of texts each with a number."""
    if not isinstance(value, list):
        return False
    return all(isinstance(part, str | bool) or _is_scored(part) for part in value)


def _is_scored(part: object) -> bool:
    return isinstance(part, list) and [isinstance(each, str) for each in part] == [True, False]


def _rest(example: object) -> str | None:
    """An example in one line of text."""
    if not isinstance(example, dict):
        return _said(example)
    parts = dict(example)
    own = parts.pop("own", None)
    if isinstance(own, list) and isinstance(parts.get("tokens"), list):
        pairs = zip(parts["tokens"], own, strict=False)
        parts["tokens"] = [f"[{token}]" if mine else str(token) for token, mine in pairs]
    if len(parts) == 1:
        return _said(next(iter(parts.values())))
    return "; ".join(f"{name}: {_said(value)}" for name, value in parts.items())


def _said(value: object) -> str | None:
    if not isinstance(value, list):
        return _plain(value)
    if value and isinstance(value[0], list):
        return _short("; ".join(f"{_plain(number)} {text}" for text, number in value))
    return _short(" ".join(map(str, value)))


def _plain(value: object) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return None if value is None else _short(value)


def _short(value: object) -> str:
    return shortened(" ".join(str(value).split()), _LONGEST)
