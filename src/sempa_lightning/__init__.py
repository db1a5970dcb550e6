"""Better sentence embeddings from decoder-only language models, without losing generation."""

__version__ = "0.1.0"
