"""What an evaluation task is: items measured once, numbers computed from any sample of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.models.embedder import Readout
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.layout import Layout
from sempa_lightning.scoring.reference import Reference

Progress = Callable[[Sequence[Any]], Iterable[Any]]
Items = dict[str, Tensor]


class Subject(NamedTuple):
    """What is evaluated.

    Attributes:
        model: The policy.
        tokenizer: Its tokenizer.
        readout: How embeddings are read out of it.
        prompt: The paraphrase prompt it was trained with.
        reference: The frozen model that its text generation is compared with.
        layout: How candidates are laid out in a forward pass.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    readout: Readout
    prompt: PromptTemplate
    reference: Reference
    layout: Layout


@runtime_checkable
class Task(Protocol):
    """One benchmark."""

    @property
    def missing(self) -> str | None:
        """Why the task cannot run here, or None when it can."""

    def run(self, subject: Subject, progress: Progress) -> Items:
        """Measure the subject: tensors that hold one value for each item, all of one length."""

    def metrics(self, items: Items) -> dict[str, float]:
        """Compute the task's numbers from its items, or from a sample of them."""
