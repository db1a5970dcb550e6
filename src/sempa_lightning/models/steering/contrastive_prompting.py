"""Contrastive Prompting: what an auxiliary prompt finds irrelevant is taken away."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder, decoder_layers
from sempa_lightning.models.prompt_tokens import PromptBatch
from sempa_lightning.models.steering.hooks import rewriting
from sempa_lightning.prompts.template import PromptTemplate

# What libraries call the projection behind the heads of an attention: Llama, OPT, GPT-2, GPT-NeoX.
_OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense")


@dataclass(frozen=True)
class ContrastivePrompting:
    """At one layer, the last token's mix of values loses that of the last token of an auxiliary prompt.

    The input v of the attention's output projection becomes scale · (v - v_aux) ("norm scaling", eq. 2), or v - v_aux
    at the length of v ("norm recovering", eq. 3), at the last token alone (Cheng et al. 2025, arXiv 2505.12831).

    Attributes:
        auxiliary: Asks for what does not matter of the sentence.
        layer: Where, counted from 0 (the paper counts from 1).
        scale: Factor of the difference, alpha of the paper; null recovers the length.
    """

    auxiliary: PromptTemplate
    layer: int
    scale: float | None

    @contextlib.contextmanager
    def steer(
        self, policy: nn.Module, batch: PromptBatch, reworded: Callable[[PromptTemplate], PromptBatch]
    ) -> Iterator[None]:
        """Read the auxiliary prompts up to the layer, then hook it.

        Raises:
            UserError: If the model has no such layer.
        """
        output = self._output(policy)
        irrelevant = _values(policy, output, reworded(self.auxiliary))
        row = torch.arange(len(batch.last), device=batch.last.device)

        def contrast(values: Tensor) -> Tensor:
            own = values[row, batch.last]
            difference = own - irrelevant
            length = own.norm(dim=-1, keepdim=True) / difference.norm(dim=-1, keepdim=True).clamp_min(1e-7)
            values = values.clone()
            values[row, batch.last] = difference * (length if self.scale is None else self.scale)
            return values

        with rewriting({output: contrast}):
            yield

    def _output(self, policy: nn.Module) -> nn.Module:
        layers = decoder_layers(policy)
        if not 0 <= self.layer < len(layers):
            raise UserError(f"readout.steering.layer={self.layer}: the model has layers 0 to {len(layers) - 1}")
        layer: nn.Module = layers[self.layer]
        outputs = (name for name, _ in layer.named_modules() if name.rpartition(".")[2] in _OUTPUTS)
        if (name := next(outputs, None)) is not None:
            return layer.get_submodule(name)
        raise UserError(
            f"found no output projection of attention in {type(layer).__name__}: this readout cannot steer it"
        )


class _ReadFarEnoughError(Exception):
    """Ends a forward pass early."""


def _values(policy: nn.Module, output: nn.Module, batch: PromptBatch) -> Float[Tensor, "sequences values"]:
    """What the projection gets at each prompt's last token; layers behind it are not run."""
    seen: list[Tensor] = []

    def catch(values: Tensor) -> Tensor:
        seen.append(values[torch.arange(len(values), device=values.device), batch.last])
        raise _ReadFarEnoughError

    with rewriting({output: catch}), contextlib.suppress(_ReadFarEnoughError):
        decoder(policy)(input_ids=batch.input_ids)
    return seen[0]
