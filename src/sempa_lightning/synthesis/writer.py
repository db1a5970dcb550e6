"""A language model at work on a part of the sentences."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.metrics.similarity import cosine
from sempa_lightning.models.causal_lm import max_positions
from sempa_lightning.models.generation import Continuation, Sampling, continue_texts
from sempa_lightning.models.user_text import UserText
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.synthesis.draft import Draft
from sempa_lightning.synthesis.encoders import Encoder
from sempa_lightning.synthesis.plan import Plan, Request

TOO_LONG = "too long to ask"
# Straight quotation marks and curved ones; curved single ones by number, for they look like the straight.
_MARKS = {'"': '"', "'": "'", "“": "”", "\u2018": "\u2019"}
_APOSTROPHE = re.compile("(?<=\\w)['\u2019](?=\\w)")


def as_asked(
    prompts: Mapping[str, PromptTemplate], tokenizer: PreTrainedTokenizerBase, chat: bool | None
) -> dict[str, PromptTemplate]:
    """Let all prompts be turns of a chat, or none; null is what the tokenizer has a template for.

    Raises:
        UserError: If they are to be turns of a chat, and the tokenizer has no template for that.
    """
    has_template = tokenizer.chat_template is not None
    if chat and not has_template:
        raise UserError("the tokenizer has no chat template: give model.chat_template, or leave chat=null")
    chat = has_template if chat is None else chat
    return {name: replace(prompt, chat=chat) for name, prompt in prompts.items()}


def unquoted(text: str) -> str:
    """Take off the quotation marks around a whole text, which models put there because the prompt does.

    Example:
        >>> unquoted("'It's closed.'")
        "It's closed."
        >>> unquoted('"Go" means "leave"')
        '"Go" means "leave"'
    """
    inner = text[1:-1]
    is_quotation = len(text) > 1 and _MARKS.get(text[0]) == text[-1]
    if not is_quotation or {text[0], text[-1]} & set(_APOSTROPHE.sub("", inner)):
        return text
    return inner.strip()


@dataclass(frozen=True)
class Writer:
    """Writes what a plan asks for, and compares it with the sentences.

    The outputs of a sentence are drawn with random numbers of their own, and so depend on the seed, the sentence and
    the prompt. Batch mates change them by rounding only, as any padding does; that too is settled where the sentences
    of a part are always the same, because batches are cut from a part in a fixed order. (A chat template that writes
    today's date gives other outputs tomorrow.)

    Attributes:
        model: Writes, in evaluation mode.
        tokenizer: Its tokenizer.
        encoder: What compares sentence and output.
        plan: What is asked.
        sampling: How outputs are drawn.
        batch_size: Outputs of one forward pass.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    plan: Plan
    sampling: Sampling
    batch_size: int

    def __call__(self, sentences: Sequence[str], advance: Callable[[int], None]) -> list[Draft]:
        """Write for a part of the sentences, prompts of like length together.

        Args:
            sentences: The part.
            advance: Is told how many more outputs are there.

        Returns:
            The outputs in the order of the plan, without quotation marks around them. One whose prompt leaves no room
            for the longest output is not asked for, and is rejected with that reason.
        """
        requests = self.plan.requests(sentences)
        user_text = UserText(self.tokenizer)
        prompts = [
            self.plan.prompts[request.prompt].prompt(self.tokenizer, user_text.shield(request.anchor))
            for request in requests
        ]
        encoded = user_text.encode(prompts, add_special_tokens=self._special_tokens)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        room = max_positions(self.model) - self.sampling.max_new_tokens
        order = sorted(
            (place for place, length in enumerate(lengths) if length <= room), key=lambda place: lengths[place]
        )
        advance(len(requests) - len(order))
        written: dict[int, Continuation] = {}
        for at in range(0, len(order), self.batch_size):
            batch = order[at : at + self.batch_size]
            continued = continue_texts(
                self.model,
                self.tokenizer,
                [prompts[place] for place in batch],
                self.sampling,
                seeds=[requests[place].seed for place in batch],
                batch_size=self.batch_size,
                special_tokens=self._special_tokens,
            )
            texts = [continuation._replace(text=unquoted(continuation.text)) for continuation in continued]
            written |= zip(batch, texts, strict=True)
            advance(len(batch))
        return self._drafts(requests, written)

    def _drafts(self, requests: Sequence[Request], written: Mapping[int, Continuation]) -> list[Draft]:
        pairs = [(requests[place].anchor, continuation.text) for place, continuation in written.items()]
        vectors = self.encoder.encode([text for pair in pairs for text in pair]) if pairs else None
        cosines = [] if vectors is None else cosine(vectors[::2], vectors[1::2]).tolist()
        found = dict(zip(written, cosines, strict=True))
        return [
            Draft(request.anchor, request.prompt, request.number, *written[place], cosine=round(found[place], 6))
            if place in written
            else Draft(request.anchor, request.prompt, request.number, "", False, 0.0, TOO_LONG)
            for place, request in enumerate(requests)
        ]

    @property
    def _special_tokens(self) -> bool:
        """A rendered chat has its begin token already; all prompts are chat turns or none is (see `as_asked`)."""
        return not next(iter(self.plan.prompts.values())).chat
