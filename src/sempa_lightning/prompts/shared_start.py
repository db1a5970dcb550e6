"""What prompts have in common, to be read once."""

from collections.abc import Sequence
from itertools import takewhile


def shared_start(prompts: Sequence[list[int]]) -> list[int]:
    """Token ids that all prompts begin with; the last token of each prompt stays its own.

    Nothing for a single prompt: reading it in two parts would save nothing.
    """
    if len(prompts) == 1:
        return []
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
