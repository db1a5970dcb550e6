"""Scores on real data equal those of mteb's own tasks and evaluators, which encode with the same model."""

import datasets
import mteb
import numpy as np
import pytest
import scipy.stats
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.sts import AbsTaskSTS
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from sklearn.linear_model import LogisticRegression

from sempa_lightning.data.labelled_texts import LabelledTable, MrpcFile, ParallelFiles, SentEvalFile
from sempa_lightning.data.scored_pairs import SemEvalFolder, StsBenchmarkFile
from sempa_lightning.data.table import FileTable
from sempa_lightning.evaluation.classification import Classification
from sempa_lightning.evaluation.clustering import Clustering, LegacyClustering
from sempa_lightning.evaluation.pairs import PairClassification
from sempa_lightning.evaluation.sts import Sts
from sempa_lightning.models.embedder import Embedder

pytestmark = pytest.mark.real_data
WITHIN = 1e-4


class Encoder(AbsEncoder):
    """The subject, as mteb sees a model."""

    def __init__(self, subject):
        self.model = subject.model
        self.mteb_model_meta = ModelMeta.create_empty()
        self.encoder = Embedder(subject.model, subject.tokenizer, subject.readout)

    def encode(self, inputs, **kwargs):  # noqa: ARG002 (mteb's signature)
        return self.encoder.encode([text for batch in inputs for text in batch["text"]]).numpy()


def score(base, subject, content, main_score, seed=42, **attributes):
    """What mteb's kind of task gives on local data."""
    kind = {AbsTaskSTS: "STS", AbsTaskClassification: "Classification", AbsTaskPairClassification: "PairClassification"}
    metadata = mteb.TaskMetadata(
        name="Local",
        description="A local file",
        dataset={"path": "local/local", "revision": "local"},
        type=kind.get(base, "Clustering"),
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )
    task = type("Local", (base,), {"metadata": metadata, **attributes})(seed=seed)
    task.dataset = content
    task.data_loaded = True
    return task.evaluate(Encoder(subject), "test", encode_kwargs={"batch_size": 64})["default"]


def texts_and_labels(source):
    rows = list(source)
    return [row.texts[0] for row in rows], [row.label for row in rows]


def run(task, subject):
    measured = task.run(subject, iter)
    assert {len(values) for values in measured.items.values()} == {len(next(iter(measured.items.values())))}
    return measured, task.metrics(measured.items)


@pytest.fixture
def banking(data_dir):
    def part(name):
        return LabelledTable(FileTable(str(data_dir / "banking77" / f"{name}.csv")), "text", "category")

    return part


@pytest.mark.parametrize("name", ["stsb", "STS16"])
def test_sts(tiny_subject, data_dir, name):
    pairs = {
        "stsb": StsBenchmarkFile(str(data_dir / "sts" / "STSBenchmark" / "sts-test.csv")),
        "STS16": SemEvalFolder(str(data_dir / "sts" / "STS16")),
    }[name]
    content = datasets.Dataset.from_list([pair._asdict() for pair in pairs])
    expected = score(AbsTaskSTS, tiny_subject, {"test": content}, "cosine_spearman")
    measured, ours = run(Sts(pairs), tiny_subject)
    assert 0.1 < expected["cosine_spearman"] < 0.9
    assert ours["spearman"] == pytest.approx(expected["cosine_spearman"], abs=WITHIN)
    assert ours["pearson"] == pytest.approx(expected["cosine_pearson"], abs=WITHIN)
    predicted, gold = measured.items["cosine"].numpy(), measured.items["gold"].numpy()
    assert ours["spearman"] == pytest.approx(scipy.stats.spearmanr(predicted, gold).statistic, abs=1e-5)
    assert ours["pearson"] == pytest.approx(scipy.stats.pearsonr(predicted, gold).statistic, abs=1e-5)


@pytest.mark.parametrize("max_texts", [None, 700])
def test_clustering(tiny_subject, banking, max_texts):
    texts, labels = texts_and_labels(banking("test"))
    expected = score(
        AbsTaskClustering,
        tiny_subject,
        {"test": datasets.Dataset.from_dict({"sentences": texts, "labels": labels})},
        "v_measure",
        seed=5,
        max_fraction_of_documents_to_embed=None,
        max_document_to_embed=max_texts,
        max_documents_per_cluster=2000,
        n_clusters=3,
    )
    task = Clustering(banking("test"), experiments=3, draws=2000, max_texts=max_texts, seed=5)
    measured, ours = run(task, tiny_subject)
    assert 0.2 < expected["v_measure"] < 0.9
    assert ours["v_measure"] == pytest.approx(expected["v_measure"], abs=WITHIN)
    assert measured.notes["v_measure_sd"] == pytest.approx(expected["v_measure_std"], abs=WITHIN)
    assert measured.items["v_measure"].tolist() == pytest.approx(expected["v_measures"]["Level 0"], abs=WITHIN)


def test_clustering_as_it_was(tiny_subject, data_dir, tmp_path):
    """Two sets of snippets, each clustered by itself."""
    folder = data_dir / "searchsnippets"
    rows = list(ParallelFiles(str(folder / "SearchSnippets.txt"), str(folder / "SearchSnippets_gnd.txt")))[::11]
    sets = []
    for number in range(2):
        part = rows[number::2]
        texts, labels = tmp_path / f"texts{number}", tmp_path / f"labels{number}"
        texts.write_text("\n".join(row.texts[0] for row in part), encoding="utf-8")
        labels.write_text("\n".join(row.label for row in part))
        sets.append(ParallelFiles(str(texts), str(labels)))
    found = [texts_and_labels(part) for part in sets]
    content = {"sentences": [texts for texts, _ in found], "labels": [labels for _, labels in found]}
    expected = score(AbsTaskClusteringLegacy, tiny_subject, {"test": datasets.Dataset.from_dict(content)}, "v_measure")
    measured, ours = run(LegacyClustering(sets), tiny_subject)
    assert ours["v_measure"] == pytest.approx(expected["v_measure"], abs=WITHIN)
    assert measured.items["v_measure"].tolist() == pytest.approx(expected["v_measures"], abs=WITHIN)

    several, _ = run(LegacyClustering(sets, seeds=[42, 43]), tiny_subject)
    assert len(several.items["v_measure"]) == 4
    assert several.items["v_measure"][::2].tolist() == measured.items["v_measure"].tolist()
    assert several.notes["v_measure_sd"] > 0


# mteb also computes precision, which has no value for a label that is never predicted.
@pytest.mark.filterwarnings("ignore:Precision is ill-defined")
@pytest.mark.parametrize("name", ["banking77", "trec"])
def test_classification(tiny_subject, banking, data_dir, name):
    folder = data_dir / "sentence-classification"
    train, test = {
        "banking77": (banking("train"), banking("test")),
        "trec": (SentEvalFile(str(folder / "TREC.train.all"), "cp1252"), SentEvalFile(str(folder / "TREC.test.all"))),
    }[name]
    samples = {"banking77": 2, "trec": 16}[name]
    parts = {}
    for part, source in (("train", train), ("test", test)):
        texts, labels = texts_and_labels(source)
        parts[part] = datasets.Dataset.from_dict({"text": texts, "label": labels})
    expected = score(
        AbsTaskClassification,
        tiny_subject,
        datasets.DatasetDict(parts),
        "accuracy",
        seed=3,
        samples_per_label=samples,
        n_experiments=3,
        evaluator_model=LogisticRegression(max_iter=100),
    )
    task = Classification(train, test, samples_per_label=samples, experiments=3, seed=3)
    measured, ours = run(task, tiny_subject)
    each = expected["scores_per_experiment"]
    assert len({round(one["accuracy"], 6) for one in each}) > 1, "the experiments differ"
    for metric in ("accuracy", "f1"):
        assert ours[metric] == pytest.approx(expected[metric], abs=WITHIN)
        assert measured.items[metric].tolist() == pytest.approx([one[metric] for one in each], abs=WITHIN)
        assert measured.notes[f"{metric}_sd"] == pytest.approx(np.std([one[metric] for one in each]), abs=WITHIN)


def test_pairs(tiny_subject, data_dir):
    source = MrpcFile(str(data_dir / "mrpc" / "msr_paraphrase_test.txt"))
    rows = [{"sentence1": row.texts[0], "sentence2": row.texts[1], "labels": int(row.label)} for row in source]
    content = {"test": datasets.Dataset.from_list(rows)}
    expected = score(AbsTaskPairClassification, tiny_subject, content, "max_ap")
    measured, ours = run(PairClassification(source), tiny_subject)
    assert ours["ap"] == pytest.approx(expected["cosine_ap"], abs=WITHIN)
    assert ours["ap"] > measured.notes["positive"] / measured.notes["pairs"] + 0.05, "better than chance"
