"""Better sentence embeddings from decoder-only language models, without losing generation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sempa_lightning.notebook import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever the name stands for)
    """Import `load` on first use, so that the package itself stays light to import."""
    if name == "load":
        from sempa_lightning.notebook import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
