import json

import pytest
import torch

from sempa_lightning.data.scored_pairs import JsonlPairs
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.mteb_task import MtebTask
from sempa_lightning.evaluation.sts import Sts
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.embedder import Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.prompts.template import PromptTemplate

mteb = pytest.importorskip("mteb")


@pytest.fixture
def pairs(sentences, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"sentence1": sentences[i], "sentence2": sentences[(i * 7 + 1) % 40], "score": i * 13 % 6} for i in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonlPairs(str(path))


@pytest.fixture
def task(pairs):
    """A task of mteb over the same pairs, as a user of mteb writes one."""
    from datasets import Dataset
    from mteb.abstasks import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    class LocalSts(AbsTaskSTS):
        metadata = TaskMetadata(
            name="LocalSts",
            dataset={"path": "local/sts", "revision": "1"},
            description="Local pairs.",
            type="STS",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="cosine_spearman",
            reference=None,
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation="",
        )

        def load_data(self, **_):
            self.dataset = {"test": Dataset.from_list([pair._asdict() for pair in pairs])}
            self.data_loaded = True

    return LocalSts()


@pytest.fixture
def subject(tiny_llama, tiny_tokenizer):
    readout = Readout(PromptTemplate('This means "{sentence}"'), str, -1, last_token)
    return Subject(tiny_llama, tiny_tokenizer, readout, None, None, None)


def test_score_is_that_of_our_own_task(subject, task, pairs):
    random = torch.get_rng_state()
    subject.model.train()
    measured = MtebTask([task]).run(subject, iter)
    assert torch.equal(torch.get_rng_state(), random)
    assert subject.model.training
    ours = Sts(pairs)
    expected = ours.metrics(ours.run(subject, iter).items)["spearman"]
    assert MtebTask([task]).metrics(measured.items) == {"LocalSts": pytest.approx(expected, abs=1e-6)}
    assert abs(expected) > 1e-3


def test_scores_are_kept_by_weights_and_readout(subject, task, tmp_path):
    """Changed weights, a changed readout and a switched-off adapter are other models; the same again is not."""
    policy = Lora(2, 4, 0.0, "all-linear").attach(subject.model)
    subject = subject._replace(model=policy)
    bridge = MtebTask([task], cache_dir=str(tmp_path / "mteb"))
    reads = []

    def measure(subject):
        inner = subject.model.get_base_model().base_model
        counter = inner.register_forward_pre_hook(lambda *_: reads.append(1))
        count = len(reads)
        measured = bridge.run(subject, iter)
        counter.remove()
        return measured.notes["revision"], measured.items["LocalSts"].item(), len(reads) > count

    fresh = measure(subject)
    assert measure(subject) == (*fresh[:2], False)

    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    trained = measure(subject)
    other = measure(subject._replace(readout=Readout(subject.readout.template, str, -1, mean)))
    with policy.disable_adapter():
        off = measure(subject)
    runs = [fresh, trained, other, off]
    assert all(was_read for *_, was_read in runs)
    assert len({revision for revision, *_ in runs}) == 4
    assert len({round(score, 6) for _, score, _ in (fresh, trained, other)}) == 3
    assert off[1] == pytest.approx(fresh[1], abs=1e-6)
    assert measure(subject) == (*trained[:2], False)


@pytest.mark.parametrize("harm", [lambda text: text.replace("0.", "0.9", 1), lambda text: text[:-9], lambda _: ""])
def test_a_kept_score_that_is_damaged_is_measured_again(subject, task, tmp_path, harm, capsys):
    bridge = MtebTask([task], cache_dir=str(tmp_path))
    score = bridge.run(subject, iter).items["LocalSts"]
    (path,) = tmp_path.rglob("LocalSts.json")
    path.write_text(harm(path.read_text()))
    capsys.readouterr()
    assert torch.equal(bridge.run(subject, iter).items["LocalSts"], score)
    assert f"{path}: checksum missing or wrong, measuring again" in capsys.readouterr().err


def test_several_tasks_have_a_mean():
    items = {"A": torch.tensor([0.5]), "B": torch.tensor([0.25])}
    assert MtebTask(["A", "B"]).metrics(items) == {"A": 0.5, "B": 0.25, "mean": 0.375}


def test_names_stand_for_tasks_and_benchmarks(subject):
    from sempa_lightning.evaluation.mteb_task import _members

    assert [task.metadata.name for task in _members("STS12")] == ["STS12"]
    assert len(_members("MTEB(eng, v2)")) == 41
    with pytest.raises(UserError, match="no task and no benchmark 'STS99'"):
        MtebTask(["STS99"]).run(subject, iter)


def test_data_that_cannot_be_read_is_one_line(subject):
    """There is no network here."""
    with pytest.raises(UserError, match="mteb cannot run STS12: ") as caught:
        MtebTask(["STS12"]).run(subject, iter)
    assert "\n" not in str(caught.value)


def test_without_mteb_a_line_says_what_to_install(subject, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(UserError, match=r"pip install 'sempa-lightning\[eval\]'"):
        MtebTask(["STS12"]).run(subject, iter)
