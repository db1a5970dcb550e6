"""How candidates are laid out in a forward pass."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sempa_lightning.types import PreferenceBatch, TokenizedRow


@runtime_checkable
class Layout(Protocol):
    """Turns rows into the token ids of one forward pass. All layouts give the same log-probabilities and gradients."""

    def num_tokens(self, rows: Sequence[TokenizedRow]) -> int:
        """Tokens that the rows take up together."""

    def __call__(self, rows: Sequence[TokenizedRow], pad_token_id: int) -> PreferenceBatch:
        """Lay the rows out."""
