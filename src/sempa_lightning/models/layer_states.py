"""Hidden states of chosen layers, from one pass through a model."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder, num_layers
from sempa_lightning.models.forward import accepted


def layer_index(policy: nn.Module, layer: int, lowest: int = 0) -> int:
    """A layer's index into the hidden states, counted from the embeddings, 0; `layer` may count from the end.

    Raises:
        UserError: If the model has no such layer, or it lies below the `lowest` that will do.
    """
    count = num_layers(policy)
    index = layer + count + 1 if layer < 0 else layer
    if not lowest <= index <= count:
        raise UserError(
            f"readout.layer={layer}: the model's layers are {lowest} to {count},"
            f" or {lowest - count - 1} to -1 from the end"
        )
    return index


def run_layers(policy: nn.Module, layers: Sequence[int], **inputs: Any) -> tuple[Any, dict[int, Tensor]]:  # noqa: ANN401 (what the library takes and returns)
    """Run the decoder: what it returns, and each layer's hidden states, (sequences, tokens, hidden), by index.

    The states of the last layer are taken after the final norm. Without another layer the model keeps none of them.
    """
    last, backbone = num_layers(policy), decoder(policy)
    inner = any(layer < last for layer in layers)
    # Decorators of transformers take what is asked for, whatever the forward pass names.
    outputs = {name: inputs.pop(name) for name in ("output_attentions",) if name in inputs}
    outputs |= {"output_hidden_states": True} if inner else {}
    output = backbone(**outputs, **accepted(backbone, **inputs))
    if inner and len(output.hidden_states or ()) != last + 1:
        raise UserError(
            f"readout.layer={list(layers)}: {type(backbone).__name__} returns {len(output.hidden_states or ())} hidden"
            f" states for {last} layers: set readout.layer=-1"
        )
    states = {layer: output.last_hidden_state if layer == last else output.hidden_states[layer] for layer in layers}
    return output, states
