"""Attention of the last token over many texts: against plain forward passes, by hand, and as a picture."""

import json
import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.attention import LastTokenAttention
from sempa_lightning.evaluation.bootstrap import change_standard_errors
from sempa_lightning.evaluation.task import Measurement, Pictured, Subject
from sempa_lightning.models.embedder import Readout
from sempa_lightning.models.prompt_parts import PARTS
from sempa_lightning.models.readout import MeanOf
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import NoReference

CLUSTER = PromptTemplate('This sentence: "{sentence}" belongs to the following cluster:')


def subject_of(model, tokenizer, readout=None):
    readout = readout or Readout(CLUSTER, str, -1, last_token)
    return Subject(model, tokenizer, readout, CLUSTER, NoReference(model), Padded())


@pytest.fixture(params=["llama", "gpt2"])
def subject(request, tiny_llama, tiny_tokenizer):
    torch.manual_seed(0)
    model = tiny_llama
    if request.param == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=256)).eval()
    return subject_of(model, tiny_tokenizer)


def test_masses_equal_sums_over_a_plain_forward(subject, sentences):
    """Parts by the tokens of the opening, counted in a prompt that is tokenized piece by piece."""
    texts = sentences[:6]
    items = LastTokenAttention(texts).run(subject, iter).items
    own = subject.model.config._attn_implementation
    subject.model.set_attn_implementation("eager")
    opening = len(subject.tokenizer('This sentence: "').input_ids)
    for row, text in enumerate(texts):
        encoding = subject.tokenizer(CLUSTER.fill(text), return_tensors="pt", return_offsets_mapping=True)
        end = len('This sentence: "') + len(text)
        spans = encoding["offset_mapping"][0].tolist()
        behind = next(place for place, (first, _) in enumerate(spans) if place and first >= end)
        with torch.no_grad():
            weights = subject.model(encoding.input_ids, output_attentions=True).attentions
        for layer, weight in enumerate(weights):
            row_of_last = weight[0, :, -1].mean(0)
            pieces = row_of_last.split([1, opening - 1, behind - opening, len(spans) - behind - 1, 1])
            torch.testing.assert_close(
                items["masses"][row, layer], torch.stack([piece.sum() for piece in pieces]), rtol=0, atol=1e-6
            )
        assert items["counts"][row].tolist() == [len(piece) for piece in pieces]
    subject.model.set_attn_implementation(own)


def test_numbers_by_hand():
    """Two texts and layers; the first layer is even, the second looks at the text."""
    masses = torch.tensor(
        [[[0.2, 0.2, 0.2, 0.2, 0.2], [0.5, 0.0, 0.4, 0.1, 0.0]], [[0.2, 0.2, 0.2, 0.2, 0.2], [0.7, 0.0, 0.2, 0.1, 0.0]]]
    )
    counts = torch.tensor([[1.0, 3.0, 2.0, 4.0, 1.0], [1.0, 3.0, 4.0, 4.0, 1.0]])
    got = LastTokenAttention([]).metrics({"masses": masses, "counts": counts})
    assert got["bos"] == pytest.approx((0.2 + 0.6) / 2)
    assert got["last_layer_text"] == pytest.approx(0.3)
    assert got["text_of_rest"] == pytest.approx((0.25 + 0.3 / 0.4) / 2)
    assert got["last_layer_text_of_rest"] == pytest.approx(0.75)
    assert got["last_layer_text_per_token"] == pytest.approx(0.6 / 6)
    assert got["prefix_per_token"] == pytest.approx((0.4 / 6 + 0) / 2)
    assert len(got) == 2 * (5 + 4 + 3)


def test_notes_hold_every_layer_with_intervals(subject, sentences):
    task = LastTokenAttention(sentences[:25], example="A man is driving a car.")
    measured = task.run(subject, iter)
    notes = measured.notes
    assert json.loads(json.dumps(notes)) == notes
    assert (notes["texts"], notes["truncated"], notes["parts"]) == (25, 0, list(PARTS))
    for name, table in notes["layers"].items():
        mean, low, high = (torch.tensor(table[key]) for key in ("mean", "low", "high"))
        assert mean.shape == (2, 5)
        assert ((low <= mean) & (mean <= high)).all(), name
        assert (high - low).max() > 0
    still = {"masses": torch.full_like(measured.items["masses"], 0.2), "counts": measured.items["counts"]}
    errors = change_standard_errors(task.metrics, still, measured.items)
    width = notes["layers"]["share"]["high"][-1][2] - notes["layers"]["share"]["low"][-1][2]
    assert width == pytest.approx(2 * 1.96 * errors["last_layer_text"], rel=0.3)


def test_the_example_is_shown_token_by_token(subject):
    example = LastTokenAttention(["No."], example="A man is driving a car.").run(subject, iter).notes["example"]
    assert "".join(example["tokens"]).endswith(CLUSTER.fill("A man is driving a car."))
    assert len(example["tokens"]) == len(example["parts"]) == len(example["attention"][0])
    text = "".join(t for t, part in zip(example["tokens"], example["parts"], strict=True) if part == "text")
    assert "A man is driving a car." in text
    assert [sum(row) for row in example["attention"]] == pytest.approx([1, 1], abs=1e-3)


def test_a_long_text_is_cut_and_counted(subject):
    measured = LastTokenAttention(["A dog.", "a dog " * 300]).run(subject, iter)
    assert measured.notes["truncated"] == 1
    assert measured.items["counts"].sum(-1).max() == 256


def test_several_prompts_are_averaged(tiny_llama, tiny_tokenizer, sentences):
    other = PromptTemplate("Cluster the text: {sentence}")
    parts = [Readout(template, str, -1, last_token) for template in (CLUSTER, other)]
    alone = [
        LastTokenAttention(sentences[:3]).run(subject_of(tiny_llama, tiny_tokenizer, part), iter).items
        for part in parts
    ]
    both = LastTokenAttention(sentences[:3]).run(subject_of(tiny_llama, tiny_tokenizer, MeanOf(parts)), iter).items
    for name, values in both.items():
        torch.testing.assert_close(values, (alone[0][name] + alone[1][name]) / 2)


@pytest.mark.parametrize("layers", [2, 32])
def test_the_picture_has_a_map_and_bars_for_each_subject(subject, sentences, layers):
    task = LastTokenAttention(sentences[:4])
    measured = task.run(subject, iter)
    items = measured.items | {"masses": measured.items["masses"].repeat(1, layers // 2, 1)}
    figure = task.picture({"before": Measurement(items, measured.notes), "after": Measurement(items, measured.notes)})
    assert isinstance(task, Pictured)
    maps = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in maps] == ["before", "after"]
    drawn = torch.tensor(maps[0].images[0].get_array().data)
    torch.testing.assert_close(drawn, items["masses"].mean(0), check_dtype=False)
    assert [label.get_text() for label in maps[0].get_xticklabels()] == list(PARTS)
    assert len(maps[0].get_yticks()) <= 16
    bars = [axis for axis in figure.axes if "last layer" in axis.get_title(loc="right")]
    assert [len(axis.patches) for axis in bars] == [len(measured.notes["example"]["tokens"]) - 1] * 2
    assert any("attention" in axis.get_ylabel() for axis in figure.axes), "the colour bar says what it shows"


def test_nothing_to_look_at(subject):
    with pytest.raises(UserError, match="no text for the last token"):
        LastTokenAttention([]).run(subject, iter)


def test_an_empty_text_is_measured(subject):
    task = LastTokenAttention(["", "A dog runs."])
    measured = task.run(subject, iter)
    assert all(len(values) == 2 for values in measured.items.values())
    assert all(map(math.isfinite, task.metrics(measured.items).values())), "no number is lost"
