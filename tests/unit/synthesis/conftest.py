"""What tests of the synthesis share."""

from dataclasses import replace

import pytest


@pytest.fixture(scope="session")
def draft():
    """Make an output; what is not given is harmless."""
    from sempa_lightning.synthesis.draft import Draft

    harmless = Draft("A man sells donuts.", "simpler", 0, "Someone is selling pastry.", True, 0.75)
    return lambda text=harmless.text, **changes: replace(harmless, text=text, **changes)
