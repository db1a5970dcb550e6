"""Preference accuracy: in every layout what one sequence at a time gives."""

from collections import Counter

import pytest
import torch

from sempa_lightning.data.rows import Row
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.evaluation.preference import PreferenceAccuracy
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.embedder import Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import NoReference

PROMPT = PromptTemplate("Say again: {sentence}")


class Listed:
    """Rows in memory."""

    missing = None

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


@pytest.fixture
def rows(sentences):
    """More than one batch of anchors, with one to three rejected candidates."""
    return [Row(s[0], (s[1],), tuple(s[2 : 3 + at % 3])) for at in range(0, 200, 10) for s in [sentences[at : at + 6]]]


@torch.no_grad()
def expected(model, tokenizer, rows):
    """Accuracy and margin by definition, token by token, in float64."""
    hits, margins = [], []
    for row in RowTokenizer(tokenizer, PROMPT, 256, "error")(rows, Counter()):
        means = []
        for completion in row.completion_ids:
            logits = model(input_ids=torch.tensor([row.prompt_ids + completion])).logits[0].double().log_softmax(-1)
            places = range(len(row.prompt_ids) - 1, logits.shape[0] - 1)
            logps = [float(logits[place, token]) for place, token in zip(places, completion, strict=True)]
            means.append(sum(logps) / len(logps))
        hits.append(means[0] > max(means[1:]))
        margins.append(means[0] - max(means[1:]))
    return {"accuracy": sum(hits) / len(hits), "margin": sum(margins) / len(margins)}


@pytest.mark.parametrize("layout", [Padded(), Packed(1), Packed(100), Packed(10_000)], ids=str)
def test_equals_one_sequence_at_a_time(tiny_llama, tiny_tokenizer, rows, layout):
    with torch.no_grad():
        for parameter in tiny_llama.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    readout = Readout(PROMPT, str, -1, last_token)
    subject = Subject(tiny_llama, tiny_tokenizer, readout, PROMPT, NoReference(tiny_llama), layout)
    task = PreferenceAccuracy(Listed(rows), max_length=256, unfit="error")
    found = task.metrics(task.run(subject, iter).items)
    assert 0 < found["accuracy"] < 1
    assert found == pytest.approx(expected(tiny_llama, tiny_tokenizer, rows), rel=1e-5, abs=1e-5)
