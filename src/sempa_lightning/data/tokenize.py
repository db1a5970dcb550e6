"""From text rows to token ids: prompt and completion joined at token level, nothing truncated."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

from transformers import PreTrainedTokenizerBase

from sempa_lightning.data.rows import Row
from sempa_lightning.errors import UserError
from sempa_lightning.models.prompt_tokens import PromptTokenizer, PromptTokens
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.user_text import UserText
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.types import TokenizedRow

_BATCH_ROWS = 1000

MERGED = "prompt and completion merge into one token"
"""Why a row is left out whose join differs at text and at token level."""


@dataclass(frozen=True)
class RowTokenizer:
    """Renders and tokenises rows.

    A completion is scored with its end token: the end of the turn in a chat, the end-of-text token otherwise,
    once. A row is unfit if the tokens of the prompt are not the first tokens of prompt + completion (the boundary
    would be scored differently from how the model reads the text), or if a sequence is longer than `max_length`:
    a truncated paraphrase is no paraphrase.

    Attributes:
        tokenizer: The policy's tokenizer.
        template: The paraphrase prompt.
        max_length: Longest prompt + completion, in tokens; the model's positions are a limit, too.
        unfit: `error` stops at the first unfit row and names it; `drop` leaves it out and counts it.
        readout: How anchor and candidates are embedded, for objectives that do; None if none does.

    Raises:
        UserError: If `unfit` is neither, or if the tokenizer has no end token.
    """

    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    max_length: int
    unfit: Literal["error", "drop"]
    readout: Readout | None = None

    def __post_init__(self) -> None:
        """Check the choice."""
        if self.unfit not in ("error", "drop"):
            raise UserError(f"data.unfit={self.unfit}: set error or drop")
        if self.tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end token, so no completion could end: give it an eos_token")

    def __call__(self, rows: Iterable[Row], dropped: Counter[str]) -> Iterator[TokenizedRow]:
        """Yield tokenised rows; add what was left out, by reason, to `dropped`.

        Raises:
            UserError: At an unfit row, if `unfit` is `error`.
        """
        waiting = iter(rows)
        while batch := list(islice(waiting, _BATCH_ROWS)):
            yield from self._batch(batch, dropped)

    def _batch(self, rows: list[Row], dropped: Counter[str]) -> Iterator[TokenizedRow]:
        """Tokenise many texts in one call, which takes a fraction of the time of many calls."""
        shield = self.user_text.shield
        prompts = self._encode([self.template.prompt(self.tokenizer, shield(row.anchor)) for row in rows])
        # The anchor as if it were a candidate, too.
        dialogues = [
            self.template.dialogue(self.tokenizer, shield(row.anchor), shield(text))
            for row in rows
            for text in row.texts
        ]
        wholes, read_out = iter(self._encode(dialogues)), iter(self._sentences(rows))
        for row, prompt in zip(rows, prompts, strict=True):
            number = len(row.texts)
            anchor, *candidates = (self._completion_ids(prompt, ids) for ids in islice(wholes, number))
            fit = [ids for ids in candidates if ids is not None]
            sentences = list(islice(read_out, number))
            if len(fit) < len(candidates):
                self._leave_out(row, MERGED, dropped)
            elif max([len(prompt) + max(map(len, fit)), *(len(text.ids) for text in sentences)]) > self.limit:
                self._leave_out(row, self._too_long, dropped)
            else:
                ids, masks = [sentence.ids for sentence in sentences], [sentence.text for sentence in sentences]
                yield TokenizedRow(row.id, prompt, fit, len(row.chosen), ids, masks, anchor or [])

    def _leave_out(self, row: Row, reason: str, dropped: Counter[str]) -> None:
        if self.unfit == "error":
            raise UserError(
                f"row {row.id} ({row.anchor[:60]!r}): {reason}; {self.remedy([reason])}, or set data.unfit=drop to"
                " leave such rows out"
            )
        dropped[reason] += 1

    @property
    def limit(self) -> int:
        """Most tokens of a sequence: `max_length`, or fewer where the model has fewer positions."""
        return min(self.max_length, int(self.tokenizer.model_max_length))

    @property
    def _too_long(self) -> str:
        whose = "" if self.limit == self.max_length else " that the model has positions for"
        return f"longer than {self.limit} tokens" + whose

    def remedy(self, reasons: Iterable[str]) -> str:
        """Return what to do about rows that are left out for these reasons."""
        remedies = []
        for reason in reasons:
            if reason == MERGED and self.template.chat:
                end = self.template.prompt(self.tokenizer, "")[-30:]
                remedies.append(
                    f"the chat template ends a prompt with {end!r} and begins a reply otherwise: set"
                    " prompt.template_arguments (such as {enable_thinking: false}) or prompt.chat=false"
                )
            elif reason == MERGED:
                remedies.append("choose another prompt or prompt.separator")
            elif reason == self._too_long and self.limit == self.max_length:
                remedies.append("raise data.max_length")
            else:
                remedies.append("give shorter rows or a model with more positions")
        return "; ".join(remedies) or "choose another prompt"

    def _completion_ids(self, prompt: list[int], ids: list[int]) -> list[int] | None:
        """Tokens after the prompt, end token included; None if the join differs at text and at token level."""
        if ids[: len(prompt)] != prompt:
            return None
        ids = ids[len(prompt) :]
        end = next((place for place, token in enumerate(ids) if token in self._end_ids), None)
        return [*ids, self.tokenizer.eos_token_id] if end is None else ids[: end + 1]

    @cached_property
    def user_text(self) -> UserText:
        """How users' texts become tokens."""
        return UserText(self.tokenizer)

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        """What can end a completion: special tokens, the unknown token aside, which may stand for text."""
        # `all_special_ids` misses ends of turn that have no role in the tokenizer: Llama 3's <|eot_id|>.
        added = self.tokenizer.added_tokens_decoder.items()
        special = {token_id for token_id, token in added if token.special} - {self.tokenizer.unk_token_id}
        return frozenset({*special, self.tokenizer.eos_token_id})

    def _sentences(self, rows: list[Row]) -> list[PromptTokens]:
        """Anchor and candidates of each row in the readout's prompt, however long they are."""
        if self.readout is None:
            return []
        read_out = PromptTokenizer(self.tokenizer, self.readout.template, self.readout.preprocess, limit=sys.maxsize)
        return read_out([text for row in rows for text in row.texts])

    def _encode(self, texts: list[str]) -> list[list[int]]:
        tokens = self.user_text.encode(texts, add_special_tokens=not self.template.chat)
        ids: list[list[int]] = tokens["input_ids"]
        return ids
