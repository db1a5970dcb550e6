"""The harness by itself, on the same weights from a folder, is what the bridge is compared with."""

import json
import random
import sys

import numpy as np
import pytest
import torch
import yaml

from sempa_lightning.assets import local_path
from sempa_lightning.data.benchmarks import HellaSwagText, InstructionChoices
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.harness import HarnessTask
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.adapters import Lora
from sempa_lightning.scoring.reference import AdapterDisabled

lm_eval = pytest.importorskip("lm_eval")

ASSETS = "pkg://sempa_lightning/assets/harness"
TASKS = local_path(ASSETS)
CHOICES = {
    "task": "made_up",
    "dataset_path": "json",
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "Finish: {{start}}",
    "doc_to_target": "{{right}}",
    "doc_to_choice": "ends",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
ANSWERS = {
    "task": "made_up_answers",
    "dataset_path": "json",
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{start}}",
    "doc_to_target": "[invalid]",
    "generation_kwargs": {"until": ["."], "max_gen_toks": 8},
    "filter_list": [
        {"name": "whole", "filter": [{"function": "take_first"}]},
        {"name": "no_e", "filter": [{"function": "regex", "regex_pattern": "(e)"}, {"function": "take_first"}]},
    ],
    "metric_list": [{"metric": "exact_match"}],
}


@pytest.fixture
def documents(sentences, tmp_path):
    """Sentences of which the second half is to be found among those of others, as a file."""
    halves = [(s[: len(s) // 2], s[len(s) // 2 :]) for s in sentences[:24]]
    rows = [
        {"start": start, "ends": [halves[(i + k) % 24][1] for k in range(3)], "right": 0}
        for i, (start, _) in enumerate(halves)
    ]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def written(tmp_path, documents):
    """Write a task YAML that reads the documents itself."""

    def write(config):
        data = {"dataset_kwargs": {"data_files": {"test": str(documents)}, "cache_dir": str(tmp_path / "cache")}}
        path = tmp_path / f"{config['task']}.yaml"
        path.write_text(yaml.safe_dump(config | data))
        return str(path)

    return write


@pytest.fixture
def folders(tiny_llama, tiny_tokenizer, tmp_path):
    """The base in a folder; its head is made to tell tokens apart, so that not the longest answer always loses."""
    tiny_llama.lm_head.weight.data *= 30
    tiny_llama.save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path


@pytest.fixture
def subject(tiny_llama, tiny_tokenizer, folders):
    """A policy with an adapter that does something, and is saved beside the base."""
    policy = Lora(4, 8, 0.0, "all-linear").attach(tiny_llama)
    reference = AdapterDisabled(policy)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    policy.save_pretrained(folders / "adapter")
    return Subject(policy, tiny_tokenizer, None, None, reference, None)


def by_itself(folders, task, limit=None, **adapter):
    arguments = {"pretrained": str(folders / "base"), "device": "cpu"} | adapter
    seeds = dict.fromkeys(["random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"], 1234)
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)
    options = {"batch_size": 4, "bootstrap_iters": 0, "limit": limit, "task_manager": manager} | seeds
    return lm_eval.simple_evaluate(model="hf", model_args=arguments, tasks=[task], **options)


@pytest.mark.parametrize(
    ("config", "metric"),
    [(CHOICES, "acc"), (CHOICES, "acc_norm"), (ANSWERS, "exact_match,no_e")],
)
def test_equal_to_the_harness_by_itself(subject, folders, written, documents, metric, config):
    """Document by document and in sum, with the adapter on and off, from a YAML and from documents of our own."""
    path = written(config)
    name, _, chosen = metric.partition(",")
    tasks = [
        HarnessTask(path, metric, 0.0, limit=20, batch_size=4),
        HarnessTask(path, metric, 0.0, documents=FileTable(str(documents)), limit=20, batch_size=4),
    ]

    def compare(**adapter):
        alone = by_itself(folders, path, 20, **adapter)
        samples = [s[name] for s in alone["samples"][config["task"]] if s["filter"] == (chosen or "none")]
        for task in tasks:
            measured = task.run(subject, iter)
            assert measured.items[name].tolist() == samples
            assert task.metrics(measured.items) == {
                name: alone["results"][config["task"]][f"{name},{chosen or 'none'}"]
            }
            assert measured.notes["documents"] == 20
        return samples

    after = compare(peft=str(folders / "adapter"))
    with subject.reference.active(subject.model):
        before = compare()
    assert len(set(after)) == 2
    assert before != after


def test_merged_weights_for_a_model_class_that_loads_a_folder(subject, written):
    """The harness's own class stands in for a server that is not here."""
    path = written(CHOICES)
    live = HarnessTask(path, "acc", 0.3, batch_size=4)
    loaded = HarnessTask(path, "acc", 0.3, batch_size=4, backend="hf")
    after = loaded.run(subject, iter).items["acc"].tolist()
    assert after == live.run(subject, iter).items["acc"].tolist()
    with subject.reference.active(subject.model):
        before = loaded.run(subject, iter).items["acc"].tolist()
        assert before == live.run(subject, iter).items["acc"].tolist()
    assert before != after
    base = subject._replace(model=subject.model.unload())
    assert loaded.run(base, iter).items["acc"].tolist() == before


def test_the_model_and_random_numbers_are_left_as_found(subject, written):
    subject.model.train()
    modes = {name: module.training for name, module in subject.model.named_modules()}
    learning = {name: parameter.requires_grad for name, parameter in subject.model.named_parameters()}
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    HarnessTask(written(CHOICES), "acc", 0.3, limit=2).run(subject, iter)
    assert {name: module.training for name, module in subject.model.named_modules()} == modes
    assert {name: parameter.requires_grad for name, parameter in subject.model.named_parameters()} == learning
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_notes_say_what_counts(subject, written, documents):
    """A prompt of 300 letters exceeds 256 tokens at 400 tokens of vocabulary only if it is long: two are made so."""
    rows = [json.loads(line) for line in documents.read_text().splitlines()]
    for row in rows[:2]:
        row["start"] = "zq" * 300
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = []

    def progress(work):
        counts.append(len(work))
        yield from work
        counts.append("done")

    task = HarnessTask(written(CHOICES), "acc", 0.3, num_fewshot=0)
    measured = task.run(subject, progress)
    values = measured.items["acc"].numpy()
    error = values.std(ddof=1) / len(values) ** 0.5
    assert measured.notes == {
        "documents": 24,
        "num_fewshot": 0,
        "truncated": 6,
        "chance": 0.3,
        "standard_error": pytest.approx(error),
        "at_chance": bool(values.mean() <= 0.3 + 3 * error),
    }
    assert counts == [72, "done"]


def test_a_group_counts_its_documents_alike(subject, written, documents, tmp_path, monkeypatch):
    """The harness weighs the members of a group by size, as in MMLU. Its own groups need the Hub; this is another."""
    from lm_eval.tasks import TaskManager

    path = written(CHOICES)
    with open(path) as file:
        member = yaml.safe_load(file)
    few = tmp_path / "few.jsonl"
    few.write_text("".join(documents.read_text().splitlines(keepends=True)[:5]))
    data = member["dataset_kwargs"] | {"data_files": {"test": str(few)}}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(member | {"task": "few", "dataset_kwargs": data}))
    group = {"group": "both", "task": ["made_up", "few"], "aggregate_metric_list": [{"metric": "acc"}]}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(group))
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr("sempa_lightning.evaluation.harness._task_manager", lambda **_: tasks)
    values = HarnessTask(path, "acc", 0.3).run(subject, iter).items["acc"].tolist()
    assert HarnessTask("both", "acc", 0.3).run(subject, iter).items["acc"].tolist() == values + values[:5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "f1"}, "has no number f1 for each document; it has acc,none, acc_norm,none"),
        ({"metric": "acc,strict"}, "has no number acc,strict"),
        ({"task": "/nowhere/task.yaml"}, "no task file /nowhere/task.yaml"),
        ({"task": "no_such_task"}, "cannot run no_such_task: .*no_such_task"),
        ({"backend": "no_such_backend"}, "cannot run"),
    ],
)
def test_what_a_user_can_put_right(subject, written, changes, message):
    options = {"task": written(CHOICES), "metric": "acc", "chance": 0.3, "limit": 2} | changes
    with pytest.raises(UserError, match=message):
        HarnessTask(**options).run(subject, iter)


def test_a_number_that_is_no_mean_is_refused(subject, tmp_path):
    """Perplexity is the exponential of a mean."""
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a dog runs home"}\n{"text": "a cat sits down"}\n')
    task = HarnessTask(f"{ASSETS}/lambada.yaml", "perplexity", 0.0, documents=FileTable(str(path)))
    with pytest.raises(UserError, match="is no mean over documents"):
        task.run(subject, iter)


def test_without_the_harness_a_line_says_what_to_install(subject, written, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"pip install 'sempa-lightning\[eval\]'"):
        HarnessTask(written(CHOICES), "acc", 0.3).run(subject, iter)


def test_documents_that_are_not_here_are_missing():
    assert HarnessTask("hellaswag", "acc", 0.25).missing is None
    assert "no file" in HarnessTask("x.yaml", "acc", 0.25, documents=HellaSwagText("/nowhere")).missing


HELLASWAG = [
    {
        "activity_label": "Dancing",
        "ctx_a": "A man bows.",
        "ctx_b": "the Lady",
        "endings": ["runs  off.", "sits.", "[also] sings.", "falls."],
        "label": "1",
    },
    {
        "activity_label": "Health",
        "ctx_a": "How to rest. [title] Sit down. [substeps] On a chair.",
        "ctx_b": "",
        "endings": ["Sleep. [title] Rise.", "Run.", "Read.", "Eat."],
        "label": "3",
    },
]
ARC = [
    {
        "question": "Who barks?",
        "choices": {"text": ["cats", "dogs", "cows"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
    {
        "question": "What\nis ice?",
        "choices": {"text": ["w", "x", "y", "z"], "label": ["1", "2", "3", "4"]},
        "answerKey": "4",
    },
]


def requests(config, documents):
    """What the harness asks a model, and which answers it holds for right."""
    from datasets import Dataset
    from lm_eval.tasks import TaskManager

    config = config | {"custom_dataset": lambda **_: {config["test_split"]: Dataset.from_list(documents)}}
    (task,) = TaskManager(include_defaults=False).load([config])["tasks"].values()
    task.build_all_requests()
    targets = [task.doc_to_target(document) for document in task.test_docs()]
    return [instance.args for instance in task.instances], targets


def original(place, documents):
    """The harness's own task on documents as the Hub has them."""
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = local_path("pkg://lm_eval/tasks")
    only = {"training_split": None, "validation_split": None, "test_split": "test"}
    return requests(load_yaml(folder / place, resolve_func=True) | only, documents)


def ours(name, documents):
    return requests(yaml.safe_load((TASKS / name).read_text()), list(documents))


def test_hellaswag_asks_what_the_harness_asks(tmp_path):
    path = tmp_path / "hellaswag.txt"
    rows = [[f"{d['activity_label']}: {d['ctx_a']} {d['ctx_b']}".strip(), d["label"], *d["endings"]] for d in HELLASWAG]
    path.write_text("".join(f"{line}\n" for row in rows for line in row))
    asked, targets = ours("hellaswag.yaml", HellaSwagText(str(path)))
    expected, right = original("hellaswag/hellaswag.yaml", HELLASWAG)
    assert asked == expected
    assert [*map(int, targets)] == [*map(int, right)] == [1, 3]
    assert asked[0] == ("Dancing: A man bows. The lady", " runs off.")


@pytest.mark.parametrize(
    ("name", "place", "column"),
    [("arc_easy", "arc/arc_easy.yaml", "question"), ("openbookqa", "openbookqa/openbookqa.yaml", "question_stem")],
)
def test_questions_with_choices_ask_what_the_harness_asks(tmp_path, name, place, column):
    ask = "Please choose the correct answer to the question:"
    rows = []
    for document in ARC:
        texts, labels = document["choices"]["text"], document["choices"]["label"]
        choices = " ".join(f"Answer{n}: {text}" for n, text in enumerate(texts, 1))
        form = "/".join(f"answer{n}" for n in range(1, len(texts) + 1))
        rows.append(
            {
                "instruction": f"{ask} {document['question']}\n\n{choices}\n\nAnswer format: {form}",
                "answer": f"answer{labels.index(document['answerKey']) + 1}",
            }
        )
    path = tmp_path / "test.json"
    path.write_text(json.dumps(rows))
    documents = [{column: row["question"], "choices": row["choices"], "answerKey": row["answerKey"]} for row in ARC]
    assert ours(f"{name}.yaml", InstructionChoices(str(path))) == original(place, documents)


def test_lambada_asks_what_the_harness_asks():
    documents = [{"text": "“A dog,” she said.\n\nIt was a dog"}]
    asked, _ = ours("lambada.yaml", documents)
    assert asked == original("lambada/lambada_openai.yaml", documents)[0]
    assert asked == [("“A dog,” she said.\n\nIt was a", " dog")]


def test_drop_asks_as_the_paper_does():
    """One example is solved, another is asked; an answer that equals the second gold answer has F1 1."""
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(TASKS / "drop_sempa.yaml", resolve_func=True)

    def answer(spans):
        return {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": spans}

    def document(name, answers):
        first, *others = map(answer, answers)
        validated = {key: [other[key] for other in others] for key in ("number", "date", "spans")}
        return {
            "query_id": name,
            "passage": f"{name} won.",
            "question": "Who?",
            "answer": first,
            "validated_answers": validated,
        }

    from datasets import Dataset
    from lm_eval.tasks import TaskManager

    splits = {
        "train": Dataset.from_list([document("Ann", [["Ann", "Bo"], ["Ann"]])] * 2),
        "validation": Dataset.from_list([document("Cy", [["Cy Young"], ["Cy"]])]),
    }
    config |= {"custom_dataset": lambda **_: splits, "num_fewshot": 1}
    (task,) = TaskManager(include_defaults=False).load([config])["tasks"].values()
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    (request,) = task.instances
    prompt, options = request.args
    assert prompt == "Passage: Ann won.\nQuestion: Who?\nAnswer: Ann, Bo\n\nPassage: Cy won.\nQuestion: Who?\nAnswer:"
    assert options["until"] == ["\n"]
    (asked,) = task.validation_docs()
    assert task.process_results(asked, [" Cy"]) == {"em": 1.0, "f1": 1.0}
    assert task.process_results(asked, [" Young"])["f1"] == pytest.approx(0.67)


def test_git_says_nothing_outside_of_a_repository(subject, written, tmp_path, monkeypatch, capfd):
    """The harness asks it for a commit of the current folder."""
    monkeypatch.chdir(tmp_path)
    HarnessTask(written(CHOICES), "acc", 0.0, limit=2, batch_size=4).run(subject, iter)
    assert "fatal" not in capfd.readouterr().err
