import math

import pytest
import torch
from torch.nn import functional as F

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.generation import HeldOutText
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.causal_lm import load_causal_lm
from sempa_lightning.models.embedder import Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import AdapterDisabled, Lent


@pytest.fixture
def subject(tiny_llama, tiny_tokenizer):
    policy = Lora(4, 8, 0.0, "all-linear").attach(tiny_llama)
    prompt = PromptTemplate("{sentence}")
    readout = Readout(prompt, str, -1, last_token)
    return Subject(policy, tiny_tokenizer, readout, prompt, AdapterDisabled(policy), Padded())


@pytest.mark.parametrize(("max_texts", "skip_texts", "used"), [(2, 0, [0, 1]), (2, 1, [1, 2]), (None, 3, [3, 4])])
def test_texts_are_those_that_are_asked_for(subject, sentences, max_texts, skip_texts, used):
    texts = sorted(sentences, key=len)[::60]
    sizes = [len(subject.tokenizer.encode(text)) - 1 for text in texts]
    assert len(set(sizes)) == 5
    items = HeldOutText(texts, max_texts, skip_texts).run(subject, iter).items
    assert items["tokens"].tolist() == [sizes[place] for place in used]


def test_numbers_equal_a_loop_over_tokens(subject, sentences):
    """Perplexity, accuracy and KL by definition, token by token, in float64."""
    texts = sentences[:3]
    generator = torch.Generator().manual_seed(0)
    for name, parameter in subject.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    task = HeldOutText(texts)
    got = task.metrics(task.run(subject, iter).items)
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


@pytest.mark.real_data
def test_perplexity_is_that_of_a_plain_loop(data_dir):
    """A small real model, as the library loads and scores it, on real articles cut to the context, one at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sempa_lightning.data.benchmarks import WikiTextArticles

    folder = local_path("pkg://sempa_lightning/assets/nano")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).float(), AutoTokenizer.from_pretrained(folder)
    articles = [*WikiTextArticles(str(data_dir / "wikitext-2" / "wiki.test.tokens"))][:3]
    texts = [articles[0], articles[1][:300], articles[2][:50]]
    nll = tokens = 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=512).input_ids
        with torch.no_grad():
            nll += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    template = PromptTemplate("{sentence}")
    subject = Subject(
        *load_causal_lm(str(folder)), Readout(template, str, -1, last_token), template, Lent(model), Padded()
    )
    task = HeldOutText(texts)
    measured = task.run(subject, iter)
    assert task.metrics(measured.items)["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    assert measured.notes == {"texts": 3, "left_out": 0, "truncated": 1}
    assert measured.items["tokens"].tolist()[0] == 511


def test_texts_without_a_second_token_are_counted(subject, sentences):
    task = HeldOutText(["", sentences[0], ""], max_texts=2)
    measured = task.run(subject, iter)
    assert measured.notes == {"texts": 1, "left_out": 1, "truncated": 0}
    assert len(measured.items["nll"]) == 1
    with pytest.raises(UserError, match="second token"):
        HeldOutText([""]).run(subject, iter)


def test_before_training_the_kl_is_zero(subject, sentences):
    task = HeldOutText(sentences[:2])
    assert task.metrics(task.run(subject, iter).items)["kl"] == 0
