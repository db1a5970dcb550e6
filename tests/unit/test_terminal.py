"""The terminal shows text of data as it is: no markup, no control characters."""

import io

import pytest
from rich.table import Table

from sempa_lightning.evaluation.samples import Samples
from sempa_lightning.evaluation.table import print_samples
from sempa_lightning.terminal import Terminal

NASTY = {
    "[red]x[/red]": "[red]x[/red]",
    "[/]": "[/]",
    ":smile:": ":smile:",
    "\x1b[31mred": r"\x1b[31mred",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "a\u202eb": r"a\u202eb",
    "\x9b31m": r"\x9b31m",
    "\ud800": r"\ud800",
}


@pytest.mark.parametrize(("text", "shown"), NASTY.items())
def test_text_is_shown_and_does_nothing(text, shown):
    out = io.StringIO()
    terminal = Terminal(file=out, width=200)
    terminal.print(text, style="red")
    table = Table(text, title=text)
    table.add_row(text)
    terminal.print(table)
    assert out.getvalue().count(shown) == 4
    assert "\x1b" not in out.getvalue()


def test_samples_show_sentences_of_any_text():
    out = io.StringIO()
    samples = Samples({text: [(text, 0.5)] for text in NASTY}, dict.fromkeys(NASTY, "[/b] \x1b[2J"))
    print_samples(samples, samples, Terminal(file=out, width=120))
    assert out.getvalue().count(r"[/b] \x1b[2J") == 2 * len(NASTY)
    assert "\x1b" not in out.getvalue()
