"""Text of data, configs and names in every format: it is shown, and it is nothing but text."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from sempa_lightning.evaluation.drawing import plain_text
from sempa_lightning.evaluation.report import write_report
from sempa_lightning.evaluation.report.charts.chart import drawn

NASTY = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)" x="',
    "' onfocus='x",
    "</pre></table><img src=x onerror=y>",
    "=cmd|' /C calc'!A0",
    "+cmd|x",
    "-2+cmd|x",
    "@SUM(A1)",
    "\t=1+1",
    "[red]x[/red] [/]",
    "\x1b[31mred\x1b]0;title\x07",
    "a\u202eb\u2066c",
    "\ud800",
    "$\\frac{1}$ and $$",
    "\\end{document} \\input{x} % ~ ^ _",
    "[50] *x",
    "| a | b `c` ![i](javascript:x)",
    "# head",
    "- item",
    "1. item",
    "&lt;b&gt; &#60;",
    "\u2028line",
]
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Structure(HTMLParser):
    """Tags with the names of their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def report(tmp_path, write):
    def of(texts, name):
        """A report in which everything that a user or a data set names is one of these texts."""
        notes = {
            **{f"remark {number}": text for number, text in enumerate(texts)},
            "examples": [
                {"sentence": f"{number} {text}", "tokens": [text], "own": [True]} for number, text in enumerate(texts)
            ],
            "written": [{"sentence": text, "text": text} for text in texts],
        }
        result = {"metrics": {"gar": 0.5}, "notes": notes}
        results = {"before/tokens/demo": result, "after/tokens/demo": {**result, "change_se": {"gar": 0.1}}}
        results |= {f"before/pairs/broken{number}": {"failed": text} for number, text in enumerate(texts)}
        every = " ".join(texts)
        config = {"model": {"path": f"m {every}"}, "run_name": every, "tags": texts}
        folder = write(tmp_path / name, results, config=config, manifest={"command": every, "commit": every})
        write_report([folder], folder)
        return folder

    return of


def read(folder, ending):
    return (folder / f"report.{ending}").read_text(encoding="utf-8")


WORDS = [f"word{number}" for number in range(len(NASTY))]


def test_a_page_has_the_elements_of_one_with_plain_words(report):
    page = read(report(NASTY, "nasty"), "html")
    found, plain = Structure(page), Structure(read(report(WORDS, "plain"), "html"))
    assert found.tags == plain.tags
    assert not HIDDEN.search(page)
    shown = " ".join(found.text.split())
    for text in NASTY:
        if not HIDDEN.search(text) and "\u2028" not in text:
            assert " ".join(text.split()) in shown


def test_csv_starts_no_formula_and_keeps_numbers(report):
    rows = list(csv.reader(io.StringIO(read(report(NASTY, "nasty"), "csv"), newline="")))
    cells = [cell for row in rows[1:] for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "@", "\t", "\r")]
    assert not [cell for cell in cells if cell[:1] in ("+", "-") and re.search("[a-z]", cell)]
    assert not [cell for cell in cells if HIDDEN.search(cell)]
    assert {"'=cmd|' /C calc'!A0", "'+cmd|x", "'-2+cmd|x", "'@SUM(A1)", "0.5", "0.1"} <= set(cells)


def test_markdown_and_latex_show_the_text_alone(report):
    """Columns of a table stay as many; no command, formula, link or element of the text is left unescaped."""
    nasty, plain = report(NASTY, "nasty"), report(WORDS, "plain")

    def bars(text):
        return [re.sub(r"\\.", "", line).count("|") for line in text.splitlines() if line.startswith("|")]

    def ends(text):
        return [line.replace(r"\&", "").count("&") for line in text.splitlines() if line.endswith(r"\\")]

    markdown, latex = read(nasty, "md"), read(nasty, "tex")
    assert bars(markdown) == bars(read(plain, "md"))
    assert ends(latex) == ends(read(plain, "tex"))
    assert not re.search(r"<\w|\]\(|[$`]", re.sub(r"\\.", "", markdown))
    assert r"\end{document}" not in latex
    assert r"\input" not in latex
    assert not re.search(r"(\\\\|rule)\n[\[*]", latex)
    assert not HIDDEN.search(markdown + latex)


def test_json_holds_the_text_itself(report):
    tables = json.loads(read(report(NASTY, "nasty"), "json"))["tables"]
    cells = {cell["text"] for table in tables for line in table["lines"] for cell in line["cells"]}
    assert {text for text in NASTY if text == " ".join(text.split())} <= cells


@pytest.mark.parametrize("text", ["$\\frac{1}$ and $$", "\x1b[31m", "漢字 \U0001f600"])
def test_charts_take_any_name(text):
    """matplotlib reads formulas between dollar signs, and warns of letters that its font lacks."""
    from matplotlib.figure import Figure

    def draw():
        figure = Figure(figsize=(1, 1))
        figure.subplots().set(title=text, xlabel=text)
        return figure

    assert not HIDDEN.search(drawn("chart", draw).svg)
    with plain_text():
        draw().savefig(io.BytesIO(), format="png")
