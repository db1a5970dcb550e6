"""Any decoder-only language model of the Hugging Face library, with its tokenizer."""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError


class LanguageModel(NamedTuple):
    """A causal language model and the tokenizer that belongs to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_causal_lm(
    path: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    chat_template: str | None = None,
    load_in_4bit: bool = False,
    dropout: bool = False,
) -> LanguageModel:
    """Load a model and its tokenizer from a folder, from the package (`pkg://`) or from the Hub.

    Args:
        path: A local folder, a `pkg://` location or a Hub name.
        revision: Commit, tag or branch on the Hub.
        dtype: Dtype of the weights, as torch names it.
        chat_template: Replaces the tokenizer's own chat template.
        load_in_4bit: Quantise to 4 bits with bitsandbytes (QLoRA).
        dropout: Leave the model's dropout on. Off by default, as in the paper's run: policy and reference then agree
            exactly at the first step.

    Raises:
        UserError: If the model is unknown, gated or out of reach, or bitsandbytes is missing.
    """
    folder = local_path(path)
    location = str(folder) if folder.is_dir() else path
    options: dict[str, Any] = {"revision": revision, "dtype": getattr(torch, dtype)}
    if load_in_4bit:
        options["quantization_config"] = _four_bits(options["dtype"])
    try:
        transformers_logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(location, **options)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(_reason(path, error)) from error
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not dropout:
        disable_dropout(model)
    return LanguageModel(model, tokenizer)


def disable_dropout(model: nn.Module) -> None:
    """Set the rate of every dropout in the model to 0, whatever mode it is in."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]


def max_positions(model: nn.Module) -> int:
    """Longest sequence that the model was built for, in tokens."""
    config: Any = model.config
    return int(config.max_position_embeddings)


def _four_bits(dtype: torch.dtype) -> Any:  # noqa: ANN401 (a config object of transformers)
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise UserError("model.load_in_4bit needs bitsandbytes: pip install 'sempa-lightning[qlora]'")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _reason(path: str, error: Exception) -> str:
    text = str(error)
    if "gated" in text or "401" in text or "403" in text:
        return f"{path} is gated: ask for access on its Hub page and run `hf auth login`, or give model.path=<folder>"
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return (
        f"cannot load {path}: {first_line} Give model.path=<a folder with config.json and weights>"
        " or a Hub name that this machine can reach."
    )
