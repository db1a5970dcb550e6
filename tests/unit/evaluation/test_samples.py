import json

import pytest

from sempa_lightning.evaluation.samples import SampleSpec, SampleTask, draw_samples
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.embedder import Embedder, Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import Lent


@pytest.fixture
def subject(tiny_llama, tiny_tokenizer):
    prompt = PromptTemplate("{sentence}")
    readout = Readout(prompt, str, -1, last_token)
    return Subject(tiny_llama, tiny_tokenizer, readout, prompt, Lent(tiny_llama), Padded())


def test_the_number_is_the_mean_cosine_of_the_neighbours(subject, sentences):
    spec = SampleSpec(sentences[:2], sentences[1:20], 3, 4)
    task = SampleTask(spec)
    measured = task.run(subject, iter)
    vectors = Embedder(subject.model, subject.tokenizer, subject.readout).encode(sentences[:20])
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    cosines = vectors[:2] @ vectors[2:].T
    expected = cosines.sort(descending=True).values[:, :3].mean().item()
    assert task.metrics(measured.items) == {"neighbour_cosine": pytest.approx(expected, abs=1e-6)}
    assert measured.notes == draw_samples(subject, spec)._asdict()
    assert set(json.loads(json.dumps(measured.notes))["paraphrases"]) == set(sentences[:2])
