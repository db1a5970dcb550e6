"""What several tests share: a tiny tokenizer, a tiny random language model, and the folder of real data.

Fixtures import the package themselves: this file is read before the run-time shape checks are switched on,
and a module that is imported by then stays unchecked.
"""

import gc
import json
import os
from pathlib import Path

import pytest
import torch

# Before anything of Hugging Face is imported: no test may depend on a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_configure(config):
    # peft 0.21 asks a property that transformers 5.23 has renamed; it still answers.
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def pytest_collection_finish():
    # What is there by now stays: there is no use in looking through millions of objects for garbage, again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing is found that an earlier session has left, and nothing is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMPA_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def sentences():
    """A few hundred English sentences."""
    from sempa_lightning.assets import local_path

    lines = local_path("pkg://sempa_lightning/assets/demo/train.jsonl").read_text().splitlines()[:300]
    return [json.loads(line)["anchor"] for line in lines]


@pytest.fixture(scope="session")
def tiny_tokenizer(sentences):
    """A byte-level BPE tokenizer of 400 tokens; copy it before you change it."""
    from sempa_lightning.models.scratch import train_tokenizer

    return train_tokenizer(sentences, 400)


@pytest.fixture
def tiny_llama(tiny_tokenizer):
    """A random float32 Llama of two layers for `tiny_tokenizer`, always with the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def data_dir():
    """The folder of real data sets."""
    folder = os.environ.get("SEMPA_DATA_DIR")
    if not folder:
        pytest.skip("SEMPA_DATA_DIR is not set: it names the folder of real data")
    return Path(folder)
