"""Tasks over sets of embeddings: the numbers of the set, a bootstrap that is honest, and the picture."""

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sempa_lightning.data.scored_pairs import JsonlPairs, StsBenchmarkFile
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.geometry import Alignment, Geometry
from sempa_lightning.evaluation.task import Pictured, Subject
from sempa_lightning.metrics import geometry
from sempa_lightning.models.embedder import Embedder, Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import NoReference

EOL = PromptTemplate('This sentence : "{sentence}" means in one word:"')


@pytest.fixture(params=["llama", "gpt2"])
def subject(request, tiny_llama, tiny_tokenizer):
    torch.manual_seed(0)
    model = tiny_llama
    if request.param == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=256))
    return Subject(model, tiny_tokenizer, Readout(EOL, str, -1, last_token), EOL, NoReference(model), Padded())


def embed(subject, sentences):
    vectors = Embedder(subject.model, subject.tokenizer, subject.readout).encode(sentences).double()
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_numbers_are_those_of_the_whole_set(subject, sentences):
    task = Geometry([*sentences[:50], *sentences[:5]], max_sentences=50)
    measured = task.run(subject, iter)
    unit = embed(subject, list(dict.fromkeys(sentences[:50])))
    assert task.metrics(measured.items) == pytest.approx(
        {name: getattr(geometry, name)(unit) for name in ("uniformity", "isotropy", "mean_cosine", "effective_rank")}
    )
    assert {len(values) for values in measured.items.values()} == {len(unit)} == {measured.notes["sentences"]}
    assert json.loads(json.dumps(measured.notes)) == measured.notes
    assert measured.notes["truncated"] == 0


def test_a_sample_with_copies_is_not_more_alike(subject, sentences):
    """Plain uniformity of a drawn sample rises, for a third of the sentences are there twice at least."""
    task = Geometry(sentences[:60])
    measured = task.run(subject, iter)
    unit = embed(subject, list(dict.fromkeys(sentences[:60])))
    generator = torch.Generator().manual_seed(0)
    honest, plain = [], []
    for _ in range(100):
        drawn = torch.randint(len(unit), (len(unit),), generator=generator)
        honest.append(task.metrics({name: values[drawn] for name, values in measured.items.items()})["uniformity"])
        plain.append(geometry.uniformity(unit[drawn]))
    whole, spread = task.metrics(measured.items)["uniformity"], float(torch.tensor(honest).std())
    assert abs(float(torch.tensor(honest).mean()) - whole) < 0.4 * spread
    assert float(torch.tensor(plain).mean()) - whole > abs(float(torch.tensor(honest).mean()) - whole)


def test_points_are_principal_components(subject, sentences):
    notes = Geometry(sentences[:40]).run(subject, iter).notes
    unit = embed(subject, list(dict.fromkeys(sentences[:40])))
    variance, axes = torch.linalg.eigh(torch.cov(unit.T))
    points = torch.tensor(notes["points"], dtype=torch.float64)
    expected = (unit - unit.mean(0)) @ axes[:, [-1, -2]]
    torch.testing.assert_close(points.abs(), expected.abs(), rtol=0, atol=2e-5)
    assert notes["explained"] == pytest.approx(
        [float(variance[-1] / variance.sum()), float(variance[-2] / variance.sum())]
    )


def test_subjects_are_drawn_on_equal_axes(subject, sentences):
    task = Geometry(sentences[:40])
    measured = task.run(subject, iter)
    turned = measured._replace(notes=measured.notes | {"points": [[-3 * x, y] for x, y in measured.notes["points"]]})
    figure = task.picture({"before": measured, "after": turned})
    assert isinstance(task, Pictured)
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() == first.get_ylim() == second.get_ylim()
    assert [axis.get_title().splitlines()[0] for axis in figure.axes] == ["before", "after"]
    assert f"{100 * measured.notes['explained'][0]:.0f} % of variance" in first.get_xlabel()
    drawn = [torch.tensor(axis.collections[0].get_offsets().data) for axis in figure.axes]
    torch.testing.assert_close(drawn[1], drawn[0] * torch.tensor([3.0, 1.0]), check_dtype=False)
    assert drawn[0].abs().max() < second.get_xlim()[1]
    assert len([axis for axis in task.picture(dict.fromkeys("abc", measured)).axes if axis.axison]) == 3


def test_two_sentences_are_too_few(subject):
    with pytest.raises(UserError, match="3 different sentences or more, but there are 2"):
        Geometry(["A", "B", "A"]).run(subject, iter)


class TestAlignment:
    def test_only_paraphrases_count(self, subject, tmp_path):
        path = tmp_path / "pairs.jsonl"
        rows = [("A dog runs.", "A cat sleeps.", 4.0), ("No.", "Yes.", 3.9), ("It rains.", "It rains.", 5.0)]
        path.write_text(
            "".join(json.dumps({"sentence1": a, "sentence2": b, "score": score}) + "\n" for a, b, score in rows)
        )
        task = Alignment(JsonlPairs(str(path)))
        measured = task.run(subject, iter)
        first, second = embed(subject, ["A dog runs.", "A cat sleeps."])
        torch.testing.assert_close(
            measured.items["squared_distance"], torch.tensor([float((first - second).square().sum()), 0.0])
        )
        assert task.metrics(measured.items)["alignment"] == pytest.approx(float((first - second).square().sum()) / 2)
        assert measured.notes == {"pairs": 2, "truncated": 0}
        with pytest.raises(UserError, match=r"score of 5.5 or more, but there is none"):
            Alignment(JsonlPairs(str(path)), min_score=5.5).run(subject, iter)

    def test_missing(self, tmp_path):
        assert "no file" in Alignment(JsonlPairs(str(tmp_path / "none.jsonl"))).missing

    @pytest.mark.real_data
    def test_stsb_has_338_paraphrases_in_its_test_split(self, data_dir):
        pairs = list(StsBenchmarkFile(str(data_dir / "sts/STSBenchmark/sts-test.csv")))
        assert sum(pair.score >= 4 for pair in pairs) == 338
