"""Continuing texts with a language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import causal_lm
from sempa_lightning.models.sharding import device_of
from sempa_lightning.models.user_text import UserText


@dataclass(frozen=True)
class Sampling:
    """How continuations are drawn.

    Attributes:
        max_new_tokens: Longest continuation.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn at that temperature.
        top_p: Tokens are drawn among the fewest that have this probability together (nucleus sampling, Holtzman et al.
            2020); 1 draws among all.

    Raises:
        UserError: If a value is out of its range.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise UserError(f"{self}: give at least one token, a temperature from 0 and a top_p above 0, up to 1")


class Continuation(NamedTuple):
    """What a model wrote behind a text.

    Attributes:
        text: Without special tokens and without white space at both ends.
        ended: Whether the model has ended it by itself, before it was as long as it may be.
    """

    text: str
    ended: bool


@torch.no_grad()
def continue_texts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    sampling: Sampling,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int = 8,
    special_tokens: bool = True,
) -> list[Continuation]:
    """Continue each text until an end token or the longest length.

    A text has its own random numbers: with the same seed it is continued alike whatever its batch mates are, up to the
    rounding by which padding changes logits. What else a model's generation config asks for, such as a penalty on
    repetition, holds.

    Args:
        model: A causal language model of the Hugging Face library, with or without adapter.
        tokenizer: Its tokenizer.
        texts: What to continue; users' texts in it may be shielded (see `UserText`).
        sampling: How tokens are drawn.
        seeds: A seed for each text; None draws them from torch's own generator, which a greedy search leaves alone.
        batch_size: Texts of one forward pass.
        special_tokens: Whether the tokenizer adds its begin token; a rendered chat has it already.
    """
    generator: Any = model
    device = device_of(model)
    ends = causal_lm(model).generation_config.eos_token_id
    end_ids = torch.tensor([] if ends is None else ends, dtype=torch.long)
    if seeds is None:
        seeds = torch.randint(2**62, (len(texts),)).tolist() if sampling.temperature > 0 else [0] * len(texts)
    user_text = UserText(tokenizer)
    continuations: list[Continuation] = []
    for at in range(0, len(texts), batch_size):
        # Padded on the left: a continuation begins behind the last column of its text.
        inputs = user_text.encode(
            list(texts[at : at + batch_size]),
            add_special_tokens=special_tokens,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(device)
        start = inputs["input_ids"].shape[1]
        ids = generator.generate(
            **inputs,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            do_sample=False,
            logits_processor=_processors(sampling, seeds[at : at + batch_size], start, device),
        )[:, start:].cpu()
        ended = torch.isin(ids, end_ids).any(-1).tolist()
        written = tokenizer.batch_decode(ids, skip_special_tokens=True)
        continuations += [Continuation(text.strip(), end) for text, end in zip(written, ended, strict=True)]
    return continuations


def draw(logits: Float[Tensor, "texts vocab"], numbers: Float[Tensor, " texts"]) -> Int[Tensor, " texts"]:
    """Draw a token for each row by its number in [0, 1): the first at which the cumulative probability exceeds it.

    Inverse transform sampling, in float64, so that no token of probability 0 is drawn.

    Example:
        >>> import torch
        >>> thirds = torch.zeros(3, 3)
        >>> draw(thirds, torch.tensor([0.0, 0.4, 0.99]))
        tensor([0, 1, 2])
    """
    cumulative = logits.double().softmax(-1).cumsum(-1)
    thresholds = numbers.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, thresholds, right=True).squeeze(-1)


class _Drawn(LogitsProcessor):  # type: ignore[misc]  # transformers ships no types
    """Leaves each row only the token that its own number draws, for a greedy search to take.

    `generate` itself draws for the whole batch from one generator, so that a row would depend on its mates.

    Args:
        numbers: Uniform numbers of each row, one for each new token.
        start: Tokens before the first new one.
    """

    def __init__(self, numbers: Float[Tensor, "texts steps"], start: int) -> None:
        self._numbers = numbers
        self._start = start

    def __call__(
        self, input_ids: Int[Tensor, "texts tokens"], scores: Float[Tensor, "texts vocab"]
    ) -> Float[Tensor, "texts vocab"]:
        """Give every other token probability 0."""
        drawn = draw(scores, self._numbers[:, input_ids.shape[1] - self._start])
        return torch.full_like(scores, -torch.inf).scatter(-1, drawn[:, None], 0.0)


def _processors(sampling: Sampling, seeds: Sequence[int], start: int, device: torch.device) -> LogitsProcessorList:
    """What is done to logits before the largest is taken."""
    if sampling.temperature == 0:
        return LogitsProcessorList()
    numbers = torch.stack(
        [torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    nucleus = [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    return LogitsProcessorList(
        [TemperatureLogitsWarper(sampling.temperature), *nucleus, _Drawn(numbers.to(device), start)]
    )
