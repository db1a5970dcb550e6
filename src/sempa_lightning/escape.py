"""Text of data, configs and names, escaped for where it is shown: one function for each format."""

import html
import json
import re

# Control characters but tab and line feed; bidirectional controls, which reorder what stands around them; line
# separators; surrogates, which no encoding takes.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What a spreadsheet reads as a formula at the start of a cell, and the numbers among them.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBERS = re.compile(r"[-+]?(inf|nan|[\d.][\d\s.,eE±…→−+%-]*)?")
_MARKDOWN = re.compile(r"([\\|*_`\[\]#~$])")
_MARKDOWN_START = re.compile(r"^(\d*)([-+.)=])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    # An optional argument, or a star, of the command before them.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "°": r"$^\circ$",
    "·": r"$\cdot$",
    "–": "--",
    "…": r"\dots{}",
    "▁": r"\textvisiblespace{}",
    "″": "''",
}


def for_terminal(text: str) -> str:
    r"""Show control characters, escape sequences and bidirectional controls as escapes; tabs and line feeds stay.

    >>> for_terminal("a\x1b[31mb\u202ec")
    'a\\x1b[31mb\\u202ec'
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def for_html(text: str) -> str:
    """Escape text for an element or a quoted attribute of HTML.

    >>> for_html('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(for_terminal(text))


def for_markdown(text: str) -> str:
    r"""Escape text for one line of Markdown: no HTML, no column ends, no emphasis, no list, no formula.

    >>> for_markdown("a|b\n<i> $x$"), for_markdown("- item"), for_markdown("1. item"), for_markdown("-1.5")
    ('a\\|b &lt;i&gt; \\$x\\$', '\\- item', '1\\. item', '-1.5')
    """
    line = " ".join(for_terminal(text).split())
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(line, quote=False))
    return escaped if _NUMBERS.fullmatch(line) else _MARKDOWN_START.sub(r"\1\\\2", escaped)


def for_markdown_code(text: str) -> str:
    """Put text into a code span of one line of Markdown; line breaks and backticks make it a JSON string.

    >>> for_markdown_code("a|b"), for_markdown_code("a`b")
    ('`a|b`', '`` "a`b" ``')
    """
    shown = for_terminal(text)
    if not set("\n\t`") & set(shown):
        return f"`{shown}`"
    fence = "`" * max(2, 1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {json.dumps(shown, ensure_ascii=False)} {fence}"


def for_latex(text: str) -> str:
    r"""Escape text for one line of LaTeX.

    >>> for_latex("[50%] a_b")
    '{[}50\\%{]} a\\_b'
    """
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(for_terminal(text).split()))


def for_csv(value: object) -> object:
    """Put a quotation mark before text that a spreadsheet would run as a formula; numbers stay numbers.

    >>> for_csv("=1+1"), for_csv("-0.5"), for_csv(-0.5), for_csv("+1.00 ± 0.20"), for_csv("-x")
    ("'=1+1", '-0.5', -0.5, '+1.00 ± 0.20', "'-x")
    """
    if not isinstance(value, str):
        return value
    text = for_terminal(value)
    return f"'{text}" if _FORMULA.match(value) and not _NUMBERS.fullmatch(value) else text


def slug(text: str) -> str:
    """Replace what is neither letter, digit, hyphen nor underscore, for anchors and labels.

    >>> slug("tokens_my task_examples")
    'tokens_my-task_examples'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)
