"""Which prompts a sentence is put into, and how often: a matter of the sentence and the seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sempa_lightning.data.cache import content_hash
from sempa_lightning.errors import UserError
from sempa_lightning.prompts.template import PromptTemplate


class Request(NamedTuple):
    """One output to be written.

    Attributes:
        anchor: The sentence.
        prompt: Name of the prompt.
        number: Which of the outputs for this prompt, from 0.
        seed: Of its random numbers.
    """

    anchor: str
    prompt: str
    number: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """What is asked of each sentence.

    Attributes:
        prompts: The prompts by name.
        prompts_per_sentence: How many of them a sentence is put into, drawn for each sentence alike; null is all.
        outputs_per_prompt: How often it is put into each.
        seed: Of the draw and of the outputs.

    Raises:
        UserError: If there is no prompt.
    """

    prompts: Mapping[str, PromptTemplate]
    prompts_per_sentence: int | None
    outputs_per_prompt: int
    seed: int

    def __post_init__(self) -> None:
        """Check that there is something to ask."""
        if not self.prompts:
            raise UserError("no prompt to ask with: set transformation=roth, or a list of options of that group")

    @property
    def size(self) -> int:
        """Outputs of each sentence."""
        drawn = len(self.prompts) if self.prompts_per_sentence is None else self.prompts_per_sentence
        return min(drawn, len(self.prompts)) * self.outputs_per_prompt

    def requests(self, sentences: Sequence[str]) -> list[Request]:
        """What is to be written for these sentences, in their order."""
        return [
            Request(sentence, name, number, self._hash(sentence, self.prompts[name].text, str(number)))
            for sentence in sentences
            for name in self._drawn(sentence)
            for number in range(self.outputs_per_prompt)
        ]

    def _drawn(self, sentence: str) -> list[str]:
        """Names of the sentence's prompts, in the order in which they are given."""
        by_chance = sorted(self.prompts, key=lambda name: self._hash(sentence, name))
        drawn = by_chance[: self.prompts_per_sentence]
        return [name for name in self.prompts if name in drawn]

    def _hash(self, *parts: str) -> int:
        """A number below 2^60 that looks random."""
        return int(content_hash(str(self.seed), *parts)[:15], 16)
