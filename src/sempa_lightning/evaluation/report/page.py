"""A report as one HTML file: no network, no script, pictures inside."""

import base64
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from sempa_lightning.escape import for_html, slug
from sempa_lightning.evaluation.report.document import Report
from sempa_lightning.evaluation.report.headline import Statement
from sempa_lightning.evaluation.report.table import Cell, Line, Table

_STYLE = Path(__file__).with_name("page.css")
# What stands before the charts.
_LEADING = ("headline", "runs", "ended")
# What a reader opens only to look something up.
_FOLDED = ("numbers", "notes")
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_MOST_CARDS = 2
_PICTURES = "Pictures of the tasks"
_MANY_COLUMNS = 7


def html_page(report: Report) -> str:
    """Render a report."""
    body = [
        *_head(report),
        *(_section(table) for table in _shown(report) if table.key in _LEADING),
        *_outputs(report),
        *_charts(report),
        *(_section(table) for table in _shown(report) if table.key not in _LEADING),
        *_pictures(report),
        *_configs(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{for_html(report.title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _shown(report: Report) -> list[Table]:
    """Tables below the headline, which cards show where there are few."""
    return [table for table in report.tables if table.key != "headline" or not _as_cards(report)]


def _as_cards(report: Report) -> bool:
    return len(report.claims) <= _MOST_CARDS


def _head(report: Report) -> Iterator[str]:
    yield f"<header>\n<h1>{for_html(report.title)}</h1>"
    if report.subtitle:
        yield f'<p class="sub">{for_html(report.subtitle)}</p>'
    yield "</header>"
    if _as_cards(report):
        several = len(report.claims) > 1
        for row, statements in report.claims:
            title = f'<p class="sub">{for_html(row.label)}</p>\n' if several else ""
            yield (
                f'{title}<section class="claims" aria-label="In short">\n'
                + "\n".join(map(_card, statements))
                + "\n</section>"
            )
    links = (f'<a href="#{slug(key)}">{for_html(title)}</a>' for key, title in _sections(report))
    yield f"<nav>{' '.join(links)}</nav>"


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    """Anchors and headings, in the order of the page."""
    tables = _shown(report)
    yield from ((table.key, table.title) for table in tables if table.key in _LEADING)
    yield from ((gallery.title, gallery.title) for gallery in report.galleries if gallery.charts)
    yield from ((table.key, table.title) for table in tables if table.key not in _LEADING)
    if report.pictures:
        yield "pictures", _PICTURES
    if any(text for _, text in report.configs):
        yield "configs", "Configs"


def _card(said: Statement) -> str:
    details = "".join(f"<dt>{for_html(name)}</dt><dd>{for_html(text)}</dd>" for name, text in said.details)
    mood = said.cell.mood or ""
    return (
        f'<div class="claim">\n<h3>{for_html(said.side)}</h3>\n<p class="number {mood}">{_number(said.cell)}</p>\n'
        f'<p class="what">{for_html(said.what)}</p>\n'
        + (f'<p class="verdict">{for_html(said.verdict)}</p>\n' if said.verdict else "")
        + (f"<dl>{details}</dl>\n" if details else "")
        + "</div>"
    )


def _charts(report: Report) -> Iterator[str]:
    for gallery in report.galleries:
        if gallery.charts:
            figures = "\n".join(
                _figure(chart.title, _uri(chart.svg.encode(), ".svg"), chart.caption, wide=chart.wide)
                for chart in gallery.charts
            )
            names = "".join(f"<span>{_dot(colour)}{for_html(name)}</span> " for name, colour in gallery.legend)
            yield f'<h2 id="{slug(gallery.title)}">{for_html(gallery.title)}</h2>'
            if gallery.note:
                yield f'<p class="note">{for_html(gallery.note)}</p>'
            if names:
                yield f'<p class="legend">{names}</p>'
            yield f'<div class="pictures">\n{figures}\n</div>'


def _dot(colour: str) -> str:
    return f'<i class="dot" style="color:{colour}">●</i>&nbsp;'


def _pictures(report: Report) -> Iterator[str]:
    if report.pictures:
        figures = "\n".join(
            _figure(_named(path), _uri(path.read_bytes(), path.suffix.lower())) for path in report.pictures
        )
        yield f'<h2 id="pictures">{_PICTURES}</h2>\n<div class="pictures drawn">\n{figures}\n</div>'


def _named(path: Path) -> str:
    """A picture's title: its path below the folder of pictures."""
    parts = path.with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index("pictures") :]
    return " / ".join(below).replace("_", " ")


def _figure(title: str, source: str, caption: str = "", *, wide: bool = False) -> str:
    """A picture between its title and its caption; a wide one is scrolled where the page is narrow."""
    kind = ' class="wide"' if wide else ""
    image = f'<img alt="{for_html(title)}" src="{source}">'
    drawn = f'<div tabindex="0" role="region" aria-label="{for_html(title)}">{image}</div>' if wide else image
    note = f'<p class="note">{for_html(caption)}</p>' if caption else ""
    return f"<figure{kind}><figcaption>{for_html(title)}</figcaption>{drawn}{note}</figure>"


def _uri(content: bytes, suffix: str) -> str:
    return f"data:{_TYPES[suffix]};base64,{base64.b64encode(content).decode()}"


def _section(table: Table) -> str:
    notes = "".join(f'\n<p class="note">{for_html(note)}</p>' for note in table.notes)
    heading = f'<h2 id="{slug(table.key)}">{for_html(table.title)}</h2>'
    if table.key in _FOLDED:
        return f'<details class="fold"><summary>{heading}</summary>\n{_table(table)}{notes}\n</details>'
    return f"<section>\n{heading}\n{_table(table)}{notes}\n</section>"


def _table(table: Table) -> str:
    columns = "".join(f'<th scope="col">{for_html(column)}</th>' for column in table.columns)
    head = f'<thead><tr><th scope="col">{for_html(table.stub)}</th>{columns}</tr></thead>' if any(table.columns) else ""
    bodies = "\n".join(
        _body(group, list(lines), len(table.columns)) for group, lines in groupby(table.lines, lambda line: line.group)
    )
    kind = "textual" if table.textual else "wide" if len(table.columns) > _MANY_COLUMNS else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{for_html(table.title)}">'
        f'<table class="{kind}">\n{head}\n{bodies}\n</table></div>'
    )


def _body(group: str, lines: list[Line], columns: int) -> str:
    heading = (
        f'<tr class="group"><th scope="rowgroup" colspan="{columns + 1}"><span>{for_html(group)}</span></th></tr>\n'
        if group
        else ""
    )
    rows = "\n".join(f'<tr><th scope="row">{_label(line)}</th>{"".join(map(_cell, line.cells))}</tr>' for line in lines)
    return f"<tbody>\n{heading}{rows}\n</tbody>"


def _label(line: Line) -> str:
    """A line's name, broken before no negative number: `layer −1` stays together."""
    links = ", ".join(f'<a href="{for_html(address)}">{for_html(name)}</a>' for name, address in line.links)
    name = links or for_html(line.label).replace(" −", "&nbsp;−")
    return (_dot(line.colour) if line.colour else "") + name


def _cell(cell: Cell) -> str:
    kinds = " ".join(kind for kind in (cell.mood, "best" if cell.best else None) if kind)
    attribute = f' class="{kinds}"' if kinds else ""
    return f"<td{attribute}>{_number(cell)}</td>"


def _number(cell: Cell) -> str:
    """Text, with an error in small print."""
    value, sign, error = cell.text.partition(" ± ")
    return for_html(value) + (
        f" <small>± {for_html(error)}</small>" if sign and cell.value is not None else for_html(sign + error)
    )


def _outputs(report: Report) -> Iterator[str]:
    if report.outputs:
        yield "<p>The end of what they printed:</p>"
    for name, text in report.outputs:
        yield f"<details><summary>{for_html(name)}</summary>\n<pre>{for_html(text)}</pre>\n</details>"


def _configs(report: Report) -> Iterator[str]:
    texts = [(folder, text) for folder, text in report.configs if text]
    if texts:
        inner = "\n".join(
            f'<p class="note">{for_html(folder)}</p>\n<pre>{for_html(text)}</pre>' for folder, text in texts
        )
        yield f'<details class="fold"><summary><h2 id="configs">Configs</h2></summary>\n{inner}\n</details>'
