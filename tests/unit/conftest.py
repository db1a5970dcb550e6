"""What unit tests of scoring and of training share."""

import pytest


@pytest.fixture
def batch():
    """Two anchors, of two and of three candidates, for a vocabulary of at least 17 tokens."""
    from sempa_lightning.scoring.padded import pad
    from sempa_lightning.types import TokenizedRow

    rows = [
        TokenizedRow("a", [0, 5, 6, 7], [[8, 9, 0], [10, 0]], 1),
        TokenizedRow("b", [0, 11], [[12, 0], [13, 14, 15, 0], [16, 0]], 1),
    ]
    return pad(rows, 0)
