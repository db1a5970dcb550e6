"""Prompt templates: text with one slot for a sentence, plain or as a turn of a chat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sempa_lightning.errors import UserError
from sempa_lightning.prompts.chat import ChatTokenizer, render

SLOT = "{sentence}"
COPY = "{copy}"
PLACEHOLDER = "{placeholder}"

# Stand in a rendered prompt where something is looked for: characters that no text and no template has.
_MARKS = ("\ue000\uf8ff\ue000", "\uf8ff\ue000\uf8ff")


class Surroundings(NamedTuple):
    """The text of a prompt around its sentence.

    Attributes:
        before: All that stands before the sentence, copies of it filled in.
        after: All that stands behind it.
        placeholder: Where in `before` the placeholder stands, in characters; None without one.
    """

    before: str
    after: str
    placeholder: int | None


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with one slot.

    Attributes:
        text: What is asked; holds `{sentence}` exactly once. Before it, `{copy}` may stand for the same sentence any
            number of times, and `{placeholder}` once, which leaves no text: it marks a place between two tokens.
        chat: Whether the text becomes a user turn of the model's chat template; otherwise it stands as it is.
        system: The system turn of a chat, or null for none.
        separator: What a plain prompt and its completion are parted by.
        template_arguments: Variables of the chat template, such as `enable_thinking: false`; null for none.

    Raises:
        UserError: If the text does not hold the slot exactly once, or anything else behind it.
    """

    text: str
    chat: bool = False
    system: str | None = None
    separator: str = ""
    template_arguments: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the slot."""
        if self.text.count(SLOT) != 1:
            raise UserError(f"a prompt needs {SLOT} exactly once, but this one has {self.text!r}")
        before, after = self.text.split(SLOT)
        if COPY in after or PLACEHOLDER in after or before.count(PLACEHOLDER) > 1:
            raise UserError(
                f"in a prompt {COPY}, and {PLACEHOLDER} once at most, stand before {SLOT}, but this one has"
                f" {self.text!r}"
            )

    def fill(self, sentence: str) -> str:
        """Put the sentence into the slots."""
        return self._filled(sentence, "", sentence)

    def prompt(self, tokenizer: ChatTokenizer, sentence: str) -> str:
        """Everything that a completion is conditioned on, as text."""
        return self._rendered(tokenizer, self.fill(sentence))

    def surroundings(self, tokenizer: ChatTokenizer, sentence: str) -> Surroundings:
        """What stands around the sentence in its prompt."""
        prompt = self._rendered(tokenizer, self._filled(sentence, *_MARKS))
        # The last marks are ours: what follows them is the template's own, whatever the sentence holds.
        before, _, after = prompt.rpartition(_MARKS[1])
        first, _, second = before.rpartition(_MARKS[0])
        return Surroundings(first + second, after, len(first) if PLACEHOLDER in self.text else None)

    def dialogue(self, tokenizer: ChatTokenizer, sentence: str, completion: str) -> str:
        """Prompt, completion and (in a chat) the end of the turn, as text.

        Raises:
            UserError: If the chat template does not continue its own prompt.
        """
        prompt = self.prompt(tokenizer, sentence)
        if not self.chat:
            return prompt + completion
        turns = [*self._turns(self.fill(sentence)), {"role": "assistant", "content": completion}]
        text = self._chat(tokenizer, turns, add_generation_prompt=False)
        if not text.startswith(prompt):
            raise UserError(
                "prompt.chat: the model's chat template does not continue its own prompt, which ends with"
                f" {prompt[-30:]!r}; set prompt.chat=false, or prompt.template_arguments (such as"
                " {enable_thinking: false}) so that it does"
            )
        return text

    def _filled(self, copy: str, placeholder: str, sentence: str) -> str:
        before, after = self.text.split(SLOT)
        first, _, second = before.partition(PLACEHOLDER)
        return first.replace(COPY, copy) + placeholder + second.replace(COPY, copy) + sentence + after

    def _rendered(self, tokenizer: ChatTokenizer, content: str) -> str:
        if not self.chat:
            return content + self.separator
        return self._chat(tokenizer, self._turns(content), add_generation_prompt=True)

    def _chat(self, tokenizer: ChatTokenizer, turns: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return render(tokenizer, turns, self.template_arguments or {}, add_generation_prompt=add_generation_prompt)

    def _turns(self, content: str) -> list[dict[str, str]]:
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": content}]
