"""What an evaluation task is: items measured once, numbers computed from any sample of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.embedding_cache import EmbeddingCache
from sempa_lightning.models.readout import SentenceReadout
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.layout import Layout
from sempa_lightning.scoring.reference import Reference

Progress = Callable[[Sequence[Any]], Iterable[Any]]
Items = dict[str, Tensor]


class Measurement(NamedTuple):
    """What a task saw of a subject.

    Attributes:
        items: Tensors that hold one value, or one row, for each item, all of one length. An item is what is drawn
            independently: a pair, a text, an example, or one experiment of a protocol.
        notes: What a report shows beside the numbers, as JSON can hold it: texts, counts, spreads.
    """

    items: Items
    notes: dict[str, Any] = {}  # noqa: RUF012 (never changed)


class Subject(NamedTuple):
    """What is evaluated.

    Attributes:
        model: The policy.
        tokenizer: Its tokenizer.
        readout: How embeddings are read out of it.
        prompt: The paraphrase prompt it was trained with.
        reference: The frozen model that its text generation is compared with.
        layout: How candidates are laid out in a forward pass.
        cache: Embeddings that are known; None where weights change.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    readout: SentenceReadout
    prompt: PromptTemplate
    reference: Reference
    layout: Layout
    cache: EmbeddingCache | None = None

    @property
    def embedder(self) -> Embedder:
        """What embeds sentences with its model and readout."""
        return Embedder(self.model, self.tokenizer, self.readout, cache=self.cache)


@runtime_checkable
class Task(Protocol):
    """One benchmark."""

    @property
    def missing(self) -> str | None:
        """Why the task cannot run here, or None when it can."""

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Measure the subject."""

    def metrics(self, items: Items) -> dict[str, float]:
        """Compute the task's numbers from its items, or from a sample of them."""


@runtime_checkable
class Pictured(Protocol):
    """A task that can be looked at."""

    def picture(self, measured: Mapping[str, Measurement]) -> Figure:
        """Draw the measurements of some subjects, by label, beside each other."""
