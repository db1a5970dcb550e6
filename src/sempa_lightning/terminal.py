"""The terminal that commands print to."""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from sempa_lightning.escape import for_terminal


class Terminal(Console):
    """Console that prints text as it is: no markup, no emoji codes, control characters as escapes.

    Args:
        quiet: Print nothing.
        file: Where it prints; None is stdout.
        width: Columns; None asks the terminal.
    """

    def __init__(self, *, quiet: bool = False, file: Any = None, width: int | None = None) -> None:  # noqa: ANN401 (any stream)
        super().__init__(quiet=quiet, file=file, width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 (rich's options)
        """Render a string, as `print` and the cells of tables do."""
        return super().render_str(for_terminal(text), **options)

    def on_broken_pipe(self) -> None:
        """Say that stdout was closed, and leave."""
        sys.stderr.write("error: broken pipe: stdout was closed\n")
        super().on_broken_pipe()
