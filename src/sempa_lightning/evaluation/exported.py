"""Whether a written model computes what the run's own model computes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import evaluating
from sempa_lightning.models.forward import FORWARD_ERRORS, accepted, brief
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.sharding import device_of
from sempa_lightning.types import TokenStates

SENTENCES = ("A girl is reading a long letter from her brother.", "Who won?", "Prices rose by 3.5 % in 1998; why?")

# Relative errors that rounding the sum of weight and update once explains, with room.
_TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@torch.no_grad()
def logits(model: Any, tokenizer: PreTrainedTokenizerBase) -> Float[Tensor, "tokens vocab"]:  # noqa: ANN401 (of the library)
    """Compute the logits of all tokens of `SENTENCES`, in float32 on the CPU."""
    with evaluating(model):
        rows = [tokenizer(text, return_tensors="pt")["input_ids"].to(device_of(model)) for text in SENTENCES]
        return torch.cat([model(input_ids=ids, use_cache=False).logits[0].float().cpu() for ids in rows])


@torch.no_grad()
def vectors(folder: Path, readout: Readout, options: Mapping[str, Any]) -> Float[Tensor, "sentences width"]:
    """Compute the vectors of `SENTENCES` from the files of a sentence encoder, as sentence-transformers does.

    Args:
        folder: The files.
        readout: Its pooling is used.
        options: Of the loading of the model.

    Raises:
        UserError: If `AutoModel`, by which sentence-transformers loads the files, cannot run them.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        model = AutoModel.from_pretrained(folder, **options).eval()
        found = [_vector(model, tokenizer, sentence, readout) for sentence in SENTENCES]
    except FORWARD_ERRORS as error:  # AutoModel builds an encoder-decoder where the run has its decoder alone
        raise UserError(
            f"formats=[{folder.name}]: transformers' AutoModel cannot run the written model ({brief(error)}). Set"
            " formats=[adapter,merged]."
        ) from error
    return torch.cat(found)


def _vector(
    model: Any,  # noqa: ANN401 (of the library)
    tokenizer: PreTrainedTokenizerBase,
    sentence: str,
    readout: Readout,
) -> Float[Tensor, "1 width"]:
    ids = tokenizer.apply_chat_template([{"role": "user", "content": sentence}], return_dict=False)
    inputs = accepted(model, input_ids=torch.tensor([ids]), use_cache=False)
    states = model(**inputs).last_hidden_state.float()
    mask = torch.ones(1, len(ids), dtype=torch.bool)
    return readout.pooling(TokenStates(states, mask, mask))


def check_exported(
    folder: Path,
    expected: Float[Tensor, "rows width"],
    found: Float[Tensor, "rows width"],
    dtype: torch.dtype,
) -> None:
    """Compare the outputs of a written model with those of the run's own.

    Args:
        folder: Where the model lies, for the message.
        expected: What the run's model computes.
        found: What the written one computes.
        dtype: Dtype of the weights, which sets the tolerance.

    Raises:
        UserError: If the relative error is beyond what rounding explains, or not a number.
    """
    if expected.shape != found.shape:
        raise UserError(
            f"formats=[{folder.name}]: the written model gives {tuple(found.shape)}, the run {tuple(expected.shape)}"
        )
    error = float((found - expected).norm() / expected.norm())
    if not error <= _TOLERANCES[dtype]:
        raise UserError(
            f"formats=[{folder.name}]: the written model differs from the run's: relative error {error:.2g}, allowed"
            f" {_TOLERANCES[dtype]:g} in {str(dtype).removeprefix('torch.')}. Nothing is written; export with"
            " formats=[adapter]"
        )
