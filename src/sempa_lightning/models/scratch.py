"""A small Llama with fresh weights and a tokenizer of its own: where `nano` comes from."""

from collections.abc import Iterable
from itertools import islice

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from sempa_lightning.assets import local_path
from sempa_lightning.models.causal_lm import LanguageModel

END_TOKEN = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_documents: int | None = None) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer whose only special token begins, ends and pads a text.

    Args:
        texts: Documents.
        vocab_size: Tokens of the vocabulary.
        max_documents: Documents read at most, all when null.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(texts, max_documents), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_TOKEN} $A", special_tokens=[(END_TOKEN, tokenizer.token_to_id(END_TOKEN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_TOKEN,
        eos_token=END_TOKEN,
        pad_token=END_TOKEN,
        clean_up_tokenization_spaces=False,
    )


def saved_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or `pkg://` location."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(local_path(path), trust_remote_code=False)
    return tokenizer


def random_llama(
    *,
    tokenizer: PreTrainedTokenizerBase,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    intermediate_size: int,
    max_length: int,
    seed: int,
) -> LanguageModel:
    """Build a Llama with random float32 weights for a tokenizer.

    Args:
        tokenizer: Its tokens are the vocabulary, which input and output embeddings share.
        hidden_size: Width.
        num_layers: Decoder layers.
        num_heads: Attention heads.
        intermediate_size: Width of the feed-forward layers.
        max_length: Longest sequence, in tokens.
        seed: Seed of the weights.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return LanguageModel(LlamaForCausalLM(config), tokenizer)
