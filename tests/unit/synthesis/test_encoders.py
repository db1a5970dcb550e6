"""Other encoders than the model that writes."""

import re

import pytest
import torch
from safetensors.torch import load_file

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import LanguageModel
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.sentence_transformer import save_sentence_transformer
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.synthesis.encoders import Encoder, SentenceTransformerEncoder, language_model_encoder

READOUT = Readout(PromptTemplate('This sentence : "{sentence}" means in one word:"'), str, -1, last_token)


@pytest.fixture
def expected(tiny_llama, tiny_tokenizer, sentences):
    return Embedder(tiny_llama, tiny_tokenizer, READOUT).encode(sentences[:5])


def test_a_language_model_is_read_out(tiny_llama, tiny_tokenizer, sentences, expected):
    tiny_llama.train()
    encoder = language_model_encoder(LanguageModel(tiny_llama, tiny_tokenizer), READOUT, "cpu")
    assert isinstance(encoder, Encoder)
    assert torch.equal(encoder.encode(sentences[:5]), expected)
    assert not tiny_llama.training
    assert not any(weight.requires_grad for weight in tiny_llama.parameters())


def test_a_folder_of_sentence_transformers(tiny_llama, tiny_tokenizer, sentences, expected, tmp_path):
    folder = tmp_path / "encoder"
    save_sentence_transformer(tiny_llama, tiny_tokenizer, READOUT, folder)
    encoder = SentenceTransformerEncoder(str(folder), "cpu")
    assert isinstance(encoder, Encoder)
    assert torch.allclose(encoder.encode(sentences[:5]), expected, atol=1e-5)


def test_code_and_pickles_of_a_folder_are_not_run(tiny_llama, tiny_tokenizer, tmp_path):
    folder, canary = tmp_path / "encoder", tmp_path / "it_ran"
    save_sentence_transformer(tiny_llama, tiny_tokenizer, READOUT, folder)
    modules = (folder / "modules.json").read_text()
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Pooling: ...\n")
    (folder / "modules.json").write_text(re.sub(r'"sentence_transformers[^"]*Pooling"', '"evil.Pooling"', modules))
    with pytest.raises(UserError, match=r"^encoder\.trust_remote_code: .*encoder\.trust_remote_code=true"):
        SentenceTransformerEncoder(str(folder), "cpu")
    (folder / "modules.json").write_text(modules)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"^encoder\.path: .*pytorch_model\.bin"):
        SentenceTransformerEncoder(str(folder), "cpu")
    assert not canary.exists()


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"cannot load encoder\.path=.*/none with sentence-transformers: "):
        SentenceTransformerEncoder(str(tmp_path / "none"), "cpu")
