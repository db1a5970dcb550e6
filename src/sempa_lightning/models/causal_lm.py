"""Any decoder-only language model of the Hugging Face library, with its tokenizer."""

from typing import NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError


class LanguageModel(NamedTuple):
    """A causal language model and the tokenizer that belongs to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
