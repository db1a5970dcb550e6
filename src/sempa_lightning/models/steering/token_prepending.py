"""Token Prepending: a token before the sentence through which the sentence sees its own end."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder_layers
from sempa_lightning.models.prompt_tokens import PromptBatch
from sempa_lightning.models.steering.hooks import rewriting
from sempa_lightning.prompts.template import PLACEHOLDER, PromptTemplate


@dataclass(frozen=True)
class TokenPrepending:
    """Before each of some layers the placeholder's state is overwritten with the last token's.

    In these layers the sentence attends to what the prompt's end knew of it a layer earlier (Fu et al. 2025,
    arXiv 2412.11556). The placeholder's own embedding is drawn at random, as in the authors' code, from a fixed seed.

    Attributes:
        first: First such layer, counted from 0, which nothing precedes: at least 1.
        last: Last such layer; those that the model does not have are left out.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        """Check the layers."""
        if not 1 <= self.first <= self.last:
            raise UserError(
                f"readout.steering: layers {self.first} to {self.last} cannot be steered; first is 1 or more, and last"
                " not before it"
            )

    def steer(
        self,
        policy: nn.Module,
        batch: PromptBatch,
        reworded: Callable[[PromptTemplate], PromptBatch],  # noqa: ARG002 (one prompt is all it takes)
    ) -> AbstractContextManager[None]:
        """Hook the layers.

        Raises:
            UserError: If the template has no placeholder.
        """
        if batch.placeholder is None:
            raise UserError(f"token prepending needs {PLACEHOLDER} before the sentence in readout.template.text")
        place = batch.placeholder
        row = torch.arange(len(place), device=place.device)

        def embed(hidden: Tensor) -> Tensor:
            drawn = torch.randn(hidden.shape[-1], generator=torch.Generator().manual_seed(0))
            hidden = hidden.clone()
            hidden[row, place] = drawn.to(hidden)
            return hidden

        def prepend(hidden: Tensor) -> Tensor:
            hidden = hidden.clone()
            hidden[row, place] = hidden[row, batch.last]
            return hidden

        layers = list(decoder_layers(policy))
        return rewriting({layers[0]: embed} | dict.fromkeys(layers[self.first : self.last + 1], prepend))
