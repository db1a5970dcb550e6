"""Vectors on disk: the same bits, for the same weights, readout and text alone."""

import copy
from functools import partial

import pytest
import torch

from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.embedding_cache import EmbeddingCache, weights_name
from sempa_lightning.models.readout import Readout, mean_of_prompts
from sempa_lightning.models.steering.token_prepending import TokenPrepending
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.prompts.template import PromptTemplate

EOL = PromptTemplate('This sentence : "{sentence}" means in one word:"')
SEMPA = Readout(EOL, str, -1, last_token)
SENTENCES = ["A dog runs", "No", "The marsh hare is a shy animal that lives among reeds.", "Yes"]


@pytest.fixture
def encode(tiny_llama, tiny_tokenizer, tmp_path):
    """Encode with a cache; tells vectors and how many texts were read."""

    def encode(readout=SEMPA, sentences=SENTENCES, keep_layers=(), model=tiny_llama):
        read = []
        cache = EmbeddingCache(tmp_path / "cache", weights_name(model), keep_layers)
        vectors = Embedder(model, tiny_tokenizer, readout, 2, cache).encode(
            sentences, lambda batches: read.extend(text for batch in batches for text in batch) or batches
        )
        return vectors, len(read)

    return encode


READOUTS = {
    "plain": SEMPA,
    "layers": Readout(EOL, str, [-1, 0], mean),
    "several": mean_of_prompts(["<{sentence}>", "{sentence}!"], str, -2, last_token),
    "steered": Readout(PromptTemplate("{placeholder}{sentence}"), str, -1, mean, steering=TokenPrepending(1, 1)),
}


@pytest.mark.parametrize("readout", READOUTS.values(), ids=READOUTS)
def test_the_same_bits_without_cache_and_with_it_empty_and_full(encode, tiny_llama, tiny_tokenizer, readout):
    expected = Embedder(tiny_llama, tiny_tokenizer, readout, 2).encode(SENTENCES)
    cold, number = encode(readout)
    warm, none = encode(readout)
    assert (number, none) == (4 * len(readout.parts), 0)
    assert torch.equal(cold, expected)
    assert torch.equal(warm, expected)
    assert torch.equal(encode(readout, SENTENCES[::-1])[0], expected.flip(0))


def test_only_what_is_new_is_read(encode):
    first, _ = encode(sentences=SENTENCES[:2])
    vectors, number = encode(sentences=["Maybe", *SENTENCES])
    assert number == 3
    assert torch.equal(vectors[1:3], first)


def test_layers_share_a_pass(encode):
    layers = (-1, 1, -3)
    for layer, number in zip(layers, (4, 0, 0), strict=True):
        readout = Readout(EOL, str, layer, last_token)
        assert encode(readout, keep_layers=layers)[1] == number
    assert encode(Readout(EOL, str, [2, 0], last_token))[1] == 0


@pytest.mark.parametrize(
    "other",
    [
        Readout(EOL, str, -1, mean),
        Readout(EOL, str, -1, partial(last_token)),
        Readout(EOL, str.upper, -1, last_token),
        Readout(PromptTemplate("<{sentence}>"), str, -1, last_token),
        Readout(EOL, str, -1, last_token, attention=True),
        Readout(EOL, str, -2, last_token),
    ],
)
def test_another_readout_is_another_entry(encode, other):
    encode()
    assert encode(other)[1] == 4


def test_other_weights_are_other_entries(encode, tiny_llama):
    base, _ = encode()
    policy = Lora(2, 4, 0.0, "all-linear").attach(tiny_llama)
    assert torch.equal(encode(model=policy)[0], base)
    with torch.no_grad():
        next(parameter for name, parameter in policy.named_parameters() if "lora_B" in name).fill_(0.5)
    moved, number = encode(model=policy)
    assert number == 4
    assert not torch.equal(moved, base)
    with policy.disable_adapter():
        switched_off, number = encode(model=policy)
    assert number == 4
    assert torch.equal(switched_off, base)
    merged = copy.deepcopy(policy).merge_and_unload()
    assert weights_name(merged) != weights_name(policy)


def test_a_damaged_file_is_replaced(encode, tmp_path, capsys):
    expected, _ = encode()
    (path,) = tmp_path.glob("cache/*/*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    vectors, number = encode()
    assert (number, torch.equal(vectors, expected)) == (4, True)
    assert capsys.readouterr().err == f"{path}: checksum missing or wrong, embedding its texts again\n"
    assert encode()[1] == 0
    assert len(list(tmp_path.glob("cache/*/*"))) == 1
    assert not path.exists()
