"""Damaged files of every cache: what is read is what was written, and a line names the file."""

import random
import shutil
from collections import Counter

import datasets
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sempa_lightning.data.cache import cached
from sempa_lightning.models.embedding_cache import EmbeddingCache
from sempa_lightning.models.prompt_tokens import PromptTokens
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.weights_hash import weights_hash
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.logp_cache import LogpCache, key

TRIES = 50


def token_rows(folder, number):
    """Rows and counts of one of two keys; their files have the same length."""

    def rows(counts):
        counts["made"] += number + 1
        yield from ({"ids": [number, row, 7 * row]} for row in range(20))

    features = datasets.Features({"ids": datasets.List(datasets.Value("int32"))})
    entry, counts = cached(folder, f"key-{number}", rows, features)
    assert counts == Counter(made=number + 1)
    return entry.to_list()


def embeddings(folder, number):
    """Vectors of two layers under one of two models."""
    readout = Readout(PromptTemplate("<{sentence}>"), str, [1, 2], last_token)
    prompts = [PromptTokens(ids=[row], text=[True], placeholder=[False], truncated=False) for row in range(6)]
    vectors = {layer: number + layer * torch.arange(24.0).reshape(6, 4) for layer in (1, 2)}
    cache = EmbeddingCache(folder, f"weights-{number}")
    found = cache.get(readout, prompts, [1, 2])
    if unread := [row for row in range(6) if row not in found]:
        cache.put(readout, [prompts[row] for row in unread], {layer: rows[unread] for layer, rows in vectors.items()})
        found = EmbeddingCache(folder, f"weights-{number}").get(readout, prompts, [1, 2])
    return {row: {layer: vector.tolist() for layer, vector in layers.items()} for row, layers in found.items()}


def logps(folder, number):
    """Log-probabilities under one of two models."""
    keys, values = [key([row], [0]) for row in range(12)], [-number - row / 8 for row in range(12)]
    cache = LogpCache(folder / f"weights-{number}" / "float32")
    if cache.get(keys) is None:
        cache.put(keys, values)
    return cache.get(keys), LogpCache(folder / f"weights-{number}" / "float32").get(keys)


MODELS = [LlamaConfig(vocab_size=4 + number, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                      num_attention_heads=1) for number in range(2)]  # fmt: skip


def hashes(folder, number):
    """Hash of the weights of one of two models that were read from files."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        model = LlamaForCausalLM(MODELS[number])
    model.config._name_or_path, model.config._commit_hash = "a/model", str(number)
    return weights_hash(model, dict(model.named_parameters()), folder)


def flip(content, chance):
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def overwrite(content, chance):
    """Replace a block, as a failing disk does."""
    start = chance.randrange(len(content))
    block = chance.choice([bytes, chance.randbytes])(chance.randrange(1, 64))
    return content[:start] + block + content[start + len(block) :]


def cut(content, chance):
    return content[: chance.randrange(len(content))]


HARMS = {"flip": flip, "overwrite": overwrite, "cut": cut, "empty": lambda *_: b"", "swap": None, "delete": None}
# Damage that leaves nothing to tell: what is not there is computed; a killed process leaves half a record.
QUIET = {token_rows: (), embeddings: ("delete",), logps: ("delete", "cut", "empty"), hashes: ("delete",)}


@pytest.mark.parametrize("read", QUIET)
def test_what_is_read_is_what_was_written(read, tmp_path, capsys):
    pristine = tmp_path / "pristine"
    read(pristine, 1)
    others = {path for path in pristine.rglob("*") if path.is_file()}
    expected = read(pristine, 0)
    files = sorted(path for path in pristine.rglob("*") if path.is_file() and path not in others)
    assert read(pristine, 0) == expected
    assert capsys.readouterr().err == ""
    for attempt in range(TRIES):
        chance = random.Random(attempt)
        folder = tmp_path / str(attempt)
        shutil.copytree(pristine, folder)
        harmed = folder / chance.choice(files).relative_to(pristine)
        name = chance.choice(list(HARMS))
        before = harmed.read_bytes()
        if name == "delete":
            harmed.unlink()
        elif name == "swap":
            shutil.copy(next(path for path in sorted(others) if path.suffix == harmed.suffix), harmed)
        else:
            harmed.write_bytes(HARMS[name](before, chance))
        changed = not harmed.exists() or harmed.read_bytes() != before
        assert read(folder, 0) == expected, (attempt, name, harmed)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (changed and name not in QUIET[read]), (attempt, name, harmed, lines)
        assert all(str(harmed) in line or str(harmed.parent) in line for line in lines)
        assert read(folder, 0) == expected
        assert capsys.readouterr().err == "", "it is whole again"
        shutil.rmtree(folder)
