"""Training-free methods that change what a model computes while it reads, by forward hooks alone."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from torch import nn

from sempa_lightning.models.prompt_tokens import PromptBatch
from sempa_lightning.prompts.template import PromptTemplate


@runtime_checkable
class Steering(Protocol):
    """Changes the forward pass of a batch."""

    def steer(
        self, policy: nn.Module, batch: PromptBatch, reworded: Callable[[PromptTemplate], PromptBatch]
    ) -> AbstractContextManager[None]:
        """Install hooks for one forward pass, and remove them when it ends.

        Args:
            policy: The model.
            batch: What it is about to read.
            reworded: Gives the same sentences, in the same order, in another prompt.
        """
