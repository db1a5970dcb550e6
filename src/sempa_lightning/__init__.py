"""Better sentence embeddings from decoder-only language models, without losing generation."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sempa_lightning.notebook import load

if sys.argv[:1] == ["-m"]:  # a command, `python -m sempa_lightning.<name>`: before any library loads
    from sempa_lightning.stopping import end_in_one_line

    end_in_one_line()

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever the name stands for)
    """Import `load` on first use, so that the package itself stays light to import."""
    if name == "load":
        from sempa_lightning.notebook import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
