"""What the last token of a prompt attends to."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import causal_lm, decoder, eager_attention, evaluating
from sempa_lightning.models.forward import brief
from sempa_lightning.models.sharding import device_of


@torch.no_grad()
def last_token_attention(policy: nn.Module, ids: list[int]) -> Float[Tensor, "layers tokens"]:
    """Attention that the last token pays to each token, itself included, at every layer; mean over heads, on the CPU.

    The tokens before it are read first, by whatever attention the model has, so that only one row of weights for each
    head ever exists. Tokens outside a layer's sliding window receive 0.

    Raises:
        UserError: If the model shows no attention weights.
    """
    backbone = decoder(policy)
    input_ids = torch.tensor([ids], device=device_of(policy))
    name = type(causal_lm(policy)).__name__
    try:
        with evaluating(policy):
            cache = backbone(input_ids=input_ids[:, :-1], use_cache=True).past_key_values if len(ids) > 1 else None
            with eager_attention(policy):
                output = backbone(input_ids=input_ids[:, -1:], past_key_values=cache, output_attentions=True)
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise UserError(
            f"eval=[attention]: {name} cannot be read token by token ({brief(error)}): leave it out"
        ) from error
    weights = [layer for layer in output.attentions or () if layer is not None]
    if not weights:
        raise UserError(f"{name} shows no attention weights: leave eval=[attention] out")
    rows = [layer[0, :, -1].float().mean(0).cpu() for layer in weights]
    return torch.stack([F.pad(row, (len(ids) - len(row), 0)) for row in rows])
