"""Prompts as token ids, with what a readout must know of each token."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import takewhile
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.models.user_text import UserText
from sempa_lightning.prompts.template import COPY, PromptTemplate
from sempa_lightning.types import padded


class PromptTokens(NamedTuple):
    """One prompt.

    Attributes:
        ids: Token ids.
        text: True at tokens of the sentence itself; at all tokens where the sentence has none.
        placeholder: Place of the placeholder token; None without one.
        truncated: Whether the sentence has lost tokens at its end.
    """

    ids: list[int]
    text: list[bool]
    placeholder: int | None = None
    truncated: bool = False


class PromptBatch(NamedTuple):
    """Prompts of one forward pass, padded on the right, where causal attention cannot see it.

    Attributes:
        input_ids: Token ids.
        last: Place of each prompt's last token.
        placeholder: Place of each prompt's placeholder token; None if the template has none.
    """

    input_ids: Int[Tensor, "sequences tokens"]
    last: Int[Tensor, " sequences"]
    placeholder: Int[Tensor, " sequences"] | None

    @classmethod
    def of(cls, prompts: Sequence[PromptTokens], device: torch.device) -> "PromptBatch":
        """Lay prompts of one template out."""
        places = [prompt.placeholder for prompt in prompts if prompt.placeholder is not None]
        return cls(
            padded([prompt.ids for prompt in prompts], 0).to(device),
            torch.tensor([len(prompt.ids) - 1 for prompt in prompts], device=device),
            torch.tensor(places, device=device) if places else None,
        )


class PromptTokenizer:
    """Turns sentences into prompts.

    A token belongs to the sentence if it holds at least one character of it: where the tokenizer has merged the
    sentence's border with a quote of the template, the merged token is the sentence's too. Characters that the
    tokenizer assigns to no token, such as spaces, count for the token behind them.

    What does not fit into the model's context is cut off at the sentence's end; the text around it stays whole. Where
    the template repeats the sentence, every copy loses the same.

    Args:
        tokenizer: The model's tokenizer, one that knows which characters a token holds.
        template: The prompt around a sentence.
        preprocess: What is done to a sentence first.
        limit: Most tokens of a prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        preprocess: Callable[[str], str],
        limit: int,
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"{type(tokenizer).__name__} does not say which characters a token holds: the model needs a fast"
                " tokenizer (tokenizer.json)"
            )
        self._tokenizer = tokenizer
        self._user_text = UserText(tokenizer)
        self._template = template
        self._preprocess = preprocess
        self._limit = limit

    def __call__(self, sentences: Sequence[str]) -> list[PromptTokens]:
        """Tokenize the prompts of sentences.

        Raises:
            UserError: If a sentence is too long and the template alone does not fit, or if a chat template changes the
                text around a sentence.
        """
        prepared = [self._user_text.shield(self._preprocess(sentence)) for sentence in sentences]
        prompts = self._prompts(prepared)
        return [self._fitted(sentence, prompt) for sentence, prompt in zip(prepared, prompts, strict=True)]

    def _prompts(self, sentences: Sequence[str]) -> list[PromptTokens]:
        """Whole prompts of prepared sentences, however long."""
        if not sentences:
            return []
        texts = [self._template.prompt(self._tokenizer, sentence) for sentence in sentences]
        tokens = self._user_text.encode(texts, add_special_tokens=not self._template.chat, return_offsets_mapping=True)
        return [
            self._prompt(sentence, text, ids, spans)
            for sentence, text, ids, spans in zip(
                sentences, texts, tokens["input_ids"], tokens["offset_mapping"], strict=True
            )
        ]

    def _prompt(self, sentence: str, text: str, ids: list[int], spans: list[tuple[int, int]]) -> PromptTokens:
        before, after, mark = self._template.surroundings(self._tokenizer, sentence)
        if not (text.startswith(before) and text[len(before) :].endswith(after)):
            raise UserError(
                f"the chat template changes the text around {sentence[:60]!r}: set readout.template.chat=false"
            )
        if not ids:  # the empty text, for a tokenizer without begin token
            return PromptTokens([self._some_token], [True])
        held = held_by(spans, len(before), len(text) - len(after))
        if not any(held):
            held = [True] * len(ids)
        if mark is None:
            return PromptTokens(ids, held)
        place = next(index for index, (_, end) in enumerate(spans) if end > mark)
        # Which token stands there does not matter: who asks for a placeholder overwrites its state.
        return PromptTokens(
            [*ids[:place], self._some_token, *ids[place:]], [*held[:place], False, *held[place:]], place
        )

    def _fitted(self, sentence: str, prompt: PromptTokens) -> PromptTokens:
        """The prompt of a prepared sentence, cut to the model's context."""
        if len(prompt.ids) <= self._limit:
            return prompt
        (bare,) = self._prompts([""])
        if len(bare.ids) >= self._limit:
            raise UserError(
                f"the readout's template leaves no room for a sentence in the model's {self._limit} positions: choose a"
                " shorter readout.template.text or another model"
            )
        if COPY in self._template.text:
            return self._shortened(sentence, self._limit - len(bare.ids))
        kept, tail = self._limit - self._tail, len(prompt.ids) - self._tail
        return prompt._replace(
            ids=prompt.ids[:kept] + prompt.ids[tail:], text=prompt.text[:kept] + prompt.text[tail:], truncated=True
        )

    def _shortened(self, sentence: str, room: int) -> PromptTokens:
        """The prompt of as much of a prepared sentence as fits in all its copies."""
        spans = self._user_text.encode([sentence], add_special_tokens=False, return_offsets_mapping=True)
        ends = [0, *(end for _, end in spans["offset_mapping"][0])]
        tokens = room // (self._template.text.count(COPY) + 1)
        while True:
            (prompt,) = self._prompts([sentence[: ends[tokens]]])
            if len(prompt.ids) <= self._limit:
                return prompt._replace(truncated=True)
            tokens -= 1

    @cached_property
    def _tail(self) -> int:
        """Number of tokens behind every sentence: what the prompts of two unlike sentences share at their end."""
        first, second = self._prompts([self._preprocess("0"), self._preprocess("1 2 3 4")])
        pairs = zip(reversed(first.ids), reversed(second.ids), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    @property
    def _some_token(self) -> int:
        names = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id)
        return next((token for token in names if token is not None), 0)


def held_by(spans: Sequence[tuple[int, int]], begin: int, end: int) -> list[bool]:
    """Which tokens hold at least one of the characters from `begin` to before `end`.

    A span that has lost spaces at its start, as byte-level tokenizers report it, is taken to begin where the span
    before it ends.

    Args:
        spans: First character of each token, and the one behind its last; (0, 0) for special tokens.
        begin: First character asked for.
        end: The one behind the last.

    Example:
        >>> held_by([(0, 0), (0, 4), (4, 7), (8, 9), (9, 10)], 5, 9)
        [False, False, True, True, False]
    """
    held, reached = [], 0
    for first, last in spans:
        held.append(begin < end and min(first, reached) < end and last > begin)
        reached = last
    return held
