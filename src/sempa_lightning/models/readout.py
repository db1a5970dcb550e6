"""How a sentence becomes a vector."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sempa_lightning.errors import UserError
from sempa_lightning.models.steering import Steering
from sempa_lightning.pooling import Pooling
from sempa_lightning.prompts.template import PLACEHOLDER, PromptTemplate


@runtime_checkable
class SentenceReadout(Protocol):
    """One reading of a sentence, or several whose vectors are averaged."""

    @property
    def parts(self) -> Sequence["Readout"]:
        """The readings."""


@dataclass(frozen=True)
class Readout:
    """One reading of a sentence.

    Attributes:
        template: The prompt around the sentence.
        preprocess: What is done to the sentence first.
        layer: Index into the hidden states, embeddings included: -1 is the last layer after the final norm. Of several,
            the mean of the vectors pooled from each.
        pooling: From the layer's hidden states to one vector.
        attention: Whether the pooling is told what the last token attends to.
        steering: A training-free method that changes what the model computes meanwhile.

    Raises:
        UserError: If no layer is named, or the template has a placeholder that nobody fills.
    """

    template: PromptTemplate
    preprocess: Callable[[str], str]
    layer: int | Sequence[int]
    pooling: Pooling
    attention: bool = False
    steering: Steering | None = None

    def __post_init__(self) -> None:
        """Check what does not depend on the model."""
        if not self.layers:
            raise UserError("readout.layer names no layer: give an index, -1 for the last, or a list of them")
        if self.steering is None and PLACEHOLDER in self.template.text:
            raise UserError(
                f"nobody fills {PLACEHOLDER} of readout.template.text: give readout.steering, or leave it out"
            )

    @property
    def layers(self) -> list[int]:
        """The layers that are read."""
        return [self.layer] if isinstance(self.layer, int) else list(self.layer)

    @property
    def parts(self) -> Sequence["Readout"]:
        """Only itself."""
        return (self,)


@dataclass(frozen=True)
class MeanOf:
    """The mean of the vectors of several readouts.

    Attributes:
        readouts: At least one.

    Raises:
        UserError: If there is none.
    """

    readouts: Sequence[SentenceReadout]

    def __post_init__(self) -> None:
        """Check that there is something to average."""
        if not self.readouts:
            raise UserError("a mean of readouts needs at least one")

    @property
    def parts(self) -> Sequence[Readout]:
        """The readings of all of them."""
        return [part for readout in self.readouts for part in readout.parts]


def mean_of_prompts(  # noqa: PLR0913 (the keys of its config node)
    texts: Sequence[str],
    preprocess: Callable[[str], str],
    layer: int | Sequence[int],
    pooling: Pooling,
    *,
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    attention: bool = False,
    steering: Steering | None = None,
) -> MeanOf:
    """The mean over prompts that are read alike.

    Args:
        texts: A prompt each, with `{sentence}`.
        preprocess: See `Readout`.
        layer: See `Readout`.
        pooling: See `Readout`.
        chat: See `PromptTemplate`.
        system: See `PromptTemplate`.
        template_arguments: See `PromptTemplate`.
        attention: See `Readout`.
        steering: See `Readout`.
    """
    templates = [PromptTemplate(text, chat, system, "", template_arguments) for text in texts]
    return MeanOf([Readout(template, preprocess, layer, pooling, attention, steering) for template in templates])
