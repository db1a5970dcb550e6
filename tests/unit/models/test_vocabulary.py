"""Tokenizers that do not fit their model: slow ones, and tokens that the model has no embedding for."""

import copy

import pytest
import torch
from transformers import ByT5Tokenizer

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import load_causal_lm
from sempa_lightning.models.vocabulary import check_vocabulary


@pytest.fixture
def tokenizer(tiny_tokenizer):
    """One with a pad token and a token for pictures that the model does not have."""
    larger = copy.deepcopy(tiny_tokenizer)
    larger.add_special_tokens({"pad_token": "[PAD]", "additional_special_tokens": ["<image>"]})
    return larger


def test_a_slow_tokenizer_is_refused_at_loading(tiny_llama, tmp_path):
    tiny_llama.save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^model\.path: ByT5Tokenizer is a slow tokenizer.*tokenizer\.json"):
        load_causal_lm(str(tmp_path))


def test_a_pad_token_outside_the_embedding_becomes_the_end_token(tiny_llama, tokenizer):
    assert tokenizer.pad_token_id >= tiny_llama.config.vocab_size
    check_vocabulary(tiny_llama, tokenizer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_pad_token_of_the_model_is_kept(tiny_llama, tiny_tokenizer):
    own = copy.deepcopy(tiny_tokenizer)
    own.pad_token = "a"
    check_vocabulary(tiny_llama, own)
    assert own.pad_token == "a"


def test_a_token_without_embedding_is_named(tiny_llama, tokenizer):
    check_vocabulary(tiny_llama, tokenizer)
    tiny_llama(input_ids=torch.tensor([tokenizer.encode("A dog")]))
    with pytest.raises(UserError, match=r"'<image>' has id 401, but the model has 400 embeddings"):
        tiny_llama(input_ids=torch.tensor([tokenizer.encode("A <image>")]))
