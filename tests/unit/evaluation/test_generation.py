import math

import pytest
import torch
from torch.nn import functional as F

from sempa_lightning.evaluation.generation import HeldOutText
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.embedder import Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import AdapterDisabled


@pytest.fixture
def subject(tiny_llama, tiny_tokenizer):
    policy = Lora(4, 8, 0.0, "all-linear").attach(tiny_llama)
    prompt = PromptTemplate("{sentence}")
    readout = Readout(prompt, str, -1, last_token)
    return Subject(policy, tiny_tokenizer, readout, prompt, AdapterDisabled(policy), Padded())


def test_numbers_equal_a_loop_over_tokens(subject, sentences):
    """Perplexity, accuracy and KL by definition, token by token, in float64."""
    texts = sentences[:3]
    generator = torch.Generator().manual_seed(0)
    for name, parameter in subject.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    task = HeldOutText(texts)
    got = task.metrics(task.run(subject, iter))
    nll = hits = kl = tokens = 0
    for text in texts:
        ids = subject.tokenizer.encode(text)
        with torch.no_grad():
            policy = subject.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            with subject.model.disable_adapter():
                reference = subject.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for place in range(1, len(ids)):
            nll -= policy[place - 1, ids[place]].item()
            hits += int(policy[place - 1].argmax() == ids[place])
            kl += F.kl_div(reference[place - 1], policy[place - 1], log_target=True, reduction="sum").item()
            tokens += 1
    assert got["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    assert got["next_token_accuracy"] == pytest.approx(hits / tokens)
    assert got["kl"] == pytest.approx(kl / tokens, rel=1e-4)
    assert got["kl"] > 1e-4


def test_before_training_the_kl_is_zero(subject, sentences):
    task = HeldOutText(sentences[:2])
    assert task.metrics(task.run(subject, iter))["kl"] == 0
