"""Tokens that embeddings decode to: those that the model itself holds likeliest behind the prompt."""

import json
import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.evaluation.tokens import DecodedTokens
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.embedder import Readout
from sempa_lightning.pooling.last_and_mean import last_and_mean
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import NoReference

EOL = PromptTemplate('This sentence : "{sentence}" means in one word:"')


def subject_of(model, tokenizer, pooling=last_token):
    return Subject(model, tokenizer, Readout(EOL, str, -1, pooling), EOL, NoReference(model), Padded())


@pytest.fixture(params=["llama", "gpt2", "adapter"])
def subject(request, tiny_llama, tiny_tokenizer):
    torch.manual_seed(0)
    model = {
        "llama": lambda: tiny_llama,
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=256)),
        "adapter": lambda: Lora(4, 8, 0.0, "all-linear").attach(tiny_llama),
    }[request.param]()
    return subject_of(model, tiny_tokenizer)


def test_decoded_tokens_and_rates_equal_a_plain_forward_and_sets(subject, sentences):
    texts = list(dict.fromkeys(sentences[:80]))
    task = DecodedTokens([*texts, texts[0]], top=10, examples=3)
    measured = task.run(subject, iter)
    found, own = [], []
    model = subject.model.eval()
    for text, decoded in zip(texts, measured.items["decoded"], strict=True):
        with torch.no_grad():
            logits = model(subject.tokenizer(EOL.fill(text), return_tensors="pt").input_ids).logits[0, -1]
        assert set(decoded.tolist()) == set(logits.topk(10).indices.tolist())
        own.append(set(subject.tokenizer(text, add_special_tokens=False).input_ids))
        found.append(own[-1] & set(decoded.tolist()))
    metrics = task.metrics(measured.items)
    assert metrics["gar"] == pytest.approx(len(set().union(*found)) / len(set().union(*own)))
    assert metrics["lar"] == pytest.approx(sum(len(f) / len(o) for f, o in zip(found, own, strict=True)) / len(texts))
    assert metrics["hit"] == pytest.approx(sum(map(bool, found)) / len(texts))
    assert 0 < metrics["gar"] < 1


def test_examples_are_the_likeliest_tokens_as_the_vocabulary_writes_them(subject, sentences):
    notes = DecodedTokens(sentences[:20], top=4, examples=3).run(subject, iter).notes
    assert json.loads(json.dumps(notes)) == notes
    assert [example["sentence"] for example in notes["examples"]] == sentences[:3]
    measured = DecodedTokens(sentences[:20], top=4).run(subject, iter)
    for row, example in enumerate(notes["examples"]):
        ids = measured.items["decoded"][row].tolist()
        assert example["own"] == [token in measured.items["surface"][row].tolist() for token in ids]
        assert [piece.replace("▁", " ").replace("\\n", "\n") for piece in example["tokens"]] == [
            piece.replace("Ġ", " ").replace("Ċ", "\n") for piece in subject.tokenizer.convert_ids_to_tokens(ids)
        ]


def test_a_sample_of_the_items_has_rates_of_its_own(subject, sentences):
    task = DecodedTokens(sentences[:30])
    items = task.run(subject, iter).items
    assert len(items["decoded"]) == len(items["surface"]) == 30
    first = task.metrics({name: values[[0, 0, 3]] for name, values in items.items()})
    alone = task.metrics({name: values[[3, 0]] for name, values in items.items()})
    assert first["gar"] == alone["gar"], "a union holds a copy once"


def test_embeddings_of_another_width_cannot_be_decoded(tiny_llama, tiny_tokenizer):
    with pytest.raises(UserError, match=r"embeddings of 64 numbers cannot be decoded to tokens.* takes 32"):
        DecodedTokens(["A", "B"]).run(subject_of(tiny_llama, tiny_tokenizer, last_and_mean), iter)


def test_nothing_to_look_at(subject):
    with pytest.raises(UserError, match="no sentence to decode"):
        DecodedTokens([]).run(subject, iter)


def test_an_empty_text_is_measured(subject):
    task = DecodedTokens(["", "A dog runs."])
    measured = task.run(subject, iter)
    assert all(len(values) == 2 for values in measured.items.values())
    assert all(map(math.isfinite, task.metrics(measured.items).values())), "no number is lost"
