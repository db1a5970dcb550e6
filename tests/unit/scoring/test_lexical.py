"""Sparse lexical vectors, against the model's own logits."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from sempa_lightning.errors import UserError
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.readout import Readout
from sempa_lightning.pooling.last_and_mean import last_and_mean
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.lexical import encode_lexical

EOL = PromptTemplate('This sentence : "{sentence}" means in one word:"')
READOUT = Readout(EOL, str, -1, last_token)
SENTENCES = ["A dog runs", "No", "A dog runs"]


@pytest.fixture(params=["llama", "soft-capped"])
def model(request, tiny_llama, tiny_tokenizer):
    if request.param == "llama":
        return tiny_llama
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Gemma2Config(
        **size, vocab_size=len(tiny_tokenizer), head_dim=8, intermediate_size=24, final_logit_softcapping=0.05
    )
    return Gemma2ForCausalLM(config).eval()


def test_weights_are_saturated_logits(model, tiny_tokenizer):
    found = encode_lexical(model, tiny_tokenizer, READOUT, SENTENCES, top_k=5)
    assert torch.equal(found.dense, Embedder(model, tiny_tokenizer, READOUT).encode(SENTENCES))
    for row, sentence in enumerate(SENTENCES):
        with torch.no_grad():
            logits = model(tiny_tokenizer.encode(EOL.fill(sentence), return_tensors="pt")).logits[0, -1]
        weights = torch.log(1 + logits.clamp_min(0))
        largest = weights.sort(descending=True)
        torch.testing.assert_close(found.weights[row], largest.values[:5], rtol=0, atol=1e-5)
        assert set(found.tokens[row].tolist()) == set(largest.indices[:5].tolist())
        assert found.nonzero[row].item() == pytest.approx((logits > 0).float().mean().item())
    assert 0.2 < found.nonzero.mean() < 0.8


def test_no_more_entries_than_there_are_tokens(tiny_llama, tiny_tokenizer):
    found = encode_lexical(tiny_llama, tiny_tokenizer, READOUT, SENTENCES, top_k=10**6)
    assert found.weights.shape == (3, tiny_llama.config.vocab_size)
    torch.testing.assert_close((found.weights > 0).float().mean(1), found.nonzero)


@pytest.mark.parametrize("readout", [Readout(EOL, str, -2, last_token), Readout(EOL, str, -1, last_and_mean)])
def test_what_the_head_cannot_read(tiny_llama, tiny_tokenizer, readout):
    with pytest.raises(UserError, match="the language-model head reads vectors of the last layer, 32 wide"):
        encode_lexical(tiny_llama, tiny_tokenizer, readout, SENTENCES, top_k=5)
