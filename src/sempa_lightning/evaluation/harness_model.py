"""A live policy as lm-evaluation-harness wants its models; imported only where the harness is installed."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.evaluation.task import Progress


class LivePolicy(HFLM):  # type: ignore[misc]
    """The harness's own model class around a policy in memory; only the progress bar is ours.

    Args:
        policy: A causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        batch_size: Requests of one forward pass.
        progress: Shows how many requests are done.
    """

    def __init__(
        self, policy: nn.Module, tokenizer: PreTrainedTokenizerBase, batch_size: int, progress: Progress
    ) -> None:
        super().__init__(pretrained=policy, tokenizer=tokenizer, batch_size=batch_size)
        self._progress = progress
        self._bar: Iterator[Any] = iter(())
        self.truncated = 0

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:  # noqa: ARG002
        """Score continuations."""
        self._bar = iter(self._progress(requests))
        scores: list[Any] = super().loglikelihood(requests, disable_tqdm=True)
        self._finish()
        return scores

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002
        """Continue texts."""
        self._bar = iter(self._progress(requests))
        texts: list[str] = super().generate_until(requests, disable_tqdm=True)
        self._finish()
        return texts

    def tok_batch_encode(self, strings: Sequence[str], *args: Any, **options: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Encode prompts for generation, and count those that are cut on the left to leave room."""
        limit = options.get("left_truncate_len") or self.max_length
        self.truncated += sum(len(self.tok_encode(text)) > limit for text in strings)
        encoded: tuple[Tensor, Tensor] = super().tok_batch_encode(strings, *args, **options)
        return encoded

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **options: Any) -> list[Any]:  # noqa: ANN401
        self.truncated += sum(len(prompt) + len(rest) > self.max_length + 1 for _, prompt, rest in requests)
        scores: list[Any] = super()._loglikelihood_tokens(requests, *args, **options)
        return scores

    def _model_call(self, inps: Tensor, *args: Any, **options: Any) -> Tensor:  # noqa: ANN401
        self._advance(len(inps))
        logits: Tensor = super()._model_call(inps, *args, **options)
        return logits

    def _model_generate(self, context: Tensor, *args: Any, **options: Any) -> Tensor:  # noqa: ANN401
        self._advance(len(context))
        ids: Tensor = super()._model_generate(context, *args, **options)
        return ids

    def _advance(self, requests: int) -> None:
        for _ in islice(self._bar, requests):
            pass

    def _finish(self) -> None:
        """Fill the bar: requests that share a prompt share a row of a forward pass."""
        for _ in self._bar:
            pass
