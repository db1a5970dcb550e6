"""Prompt templates: text with one slot for a sentence, plain or as a turn of a chat."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sempa_lightning.errors import UserError

SLOT = "{sentence}"


@runtime_checkable
class ChatTokenizer(Protocol):
    """The part of a tokenizer that a template needs."""

    chat_template: Any

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """Write a conversation as the model was trained to read it."""


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with one slot.

    Attributes:
        text: What is asked; holds `{sentence}` exactly once.
        chat: Whether the text becomes a user turn of the model's chat template; otherwise it stands as it is.
        system: The system turn of a chat, or null for none.
        separator: What a plain prompt and its completion are parted by.

    Raises:
        UserError: If the text does not hold the slot exactly once.
    """

    text: str
    chat: bool = False
    system: str | None = None
    separator: str = ""

    def __post_init__(self) -> None:
        """Check the slot."""
        if self.text.count(SLOT) != 1:
            raise UserError(f"a prompt needs {SLOT} exactly once, but this one has {self.text!r}")

    def fill(self, sentence: str) -> str:
        """Put the sentence into the slot."""
        before, after = self.text.split(SLOT)
        return before + sentence + after

    def prompt(self, tokenizer: ChatTokenizer, sentence: str) -> str:
        """Everything that a completion is conditioned on, as text."""
        if not self.chat:
            return self.fill(sentence) + self.separator
        return _chat(tokenizer, self._turns(sentence), add_generation_prompt=True)

    def dialogue(self, tokenizer: ChatTokenizer, sentence: str, completion: str) -> str:
        """Prompt, completion and (in a chat) the end of the turn, as text.

        Raises:
            UserError: If the chat template does not continue its own prompt.
        """
        prompt = self.prompt(tokenizer, sentence)
        if not self.chat:
            return prompt + completion
        turns = [*self._turns(sentence), {"role": "assistant", "content": completion}]
        text = _chat(tokenizer, turns, add_generation_prompt=False)
        if not text.startswith(prompt):
            raise UserError("the model's chat template does not continue its own prompt; set prompt.chat=false")
        return text

    def _turns(self, sentence: str) -> list[dict[str, str]]:
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": self.fill(sentence)}]


def _chat(tokenizer: ChatTokenizer, turns: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    if tokenizer.chat_template is None:
        raise UserError("the tokenizer has no chat template: give model.chat_template, or set prompt.chat=false")
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
