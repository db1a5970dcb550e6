"""What prompts begin with."""

import pytest

from sempa_lightning.prompts.shared_start import shared_start


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([[1, 2, 3, 4], [1, 2, 5]], [1, 2]),
        ([[1, 2], [1, 2, 3]], [1]),
        ([[1, 2], [1, 2]], [1]),
        ([[1, 2], [3, 2]], []),
        ([[1], [1, 2]], []),
        ([[1, 2, 3]], []),
    ],
    ids=["to the first difference", "shorter prompt", "equal prompts", "nothing", "one token", "single prompt"],
)
def test_the_last_token_of_each_prompt_stays_its_own(prompts, expected):
    assert shared_start(prompts) == expected
