import json

import pytest

from sempa_lightning.data.benchmarks import HellaSwagText, InstructionChoices, WikiTextArticles
from sempa_lightning.data.table import FileTable
from sempa_lightning.errors import UserError

ENDINGS = ["runs.", "sits [up].", "stands.", "falls."]


@pytest.fixture
def write(tmp_path):
    def to_file(content):
        path = tmp_path / "file"
        path.write_text(content)
        return str(path)

    return to_file


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Dancing: A man bows. he", "Dancing: A man bows. He"),
        ('Dancing: "Now." the Lady', 'Dancing: "Now." The lady'),
        ("Dancing: A man bows. He turns.", "Dancing: A man bows. He turns."),
        ("Cooking: 1 a man cooks. 2 the man", "Cooking: 1 a man cooks. 2 the man"),
        ("Life: How to rest. [title] Sit. [substeps] On a [soft] chair.", "Life: How to rest.. Sit. On a chair."),
    ],
)
def test_hellaswag(write, text, query):
    """The sentence that the endings complete begins in upper case, its rest in lower case; brackets are taken out."""
    lines = [text, "2", *ENDINGS]
    (document,) = HellaSwagText(write("\n".join(lines) + "\n"))
    assert document == {"query": query, "choices": ["runs.", "sits .", "stands.", "falls."], "label": 2}


@pytest.mark.parametrize("flaw", [["a: b", "4", *ENDINGS], ["a: b", "1", *ENDINGS[:3]], ["a: b"]])
def test_a_broken_hellaswag_file_is_named_with_its_line(write, flaw):
    with pytest.raises(UserError, match="line 7: a document has a text, a label 0-3 and four endings"):
        list(HellaSwagText(write("\n".join(["a: b", "1", *ENDINGS, *flaw]) + "\n")))


def instruction(question, choices):
    numbered = " ".join(f"Answer{n}: {choice}" for n, choice in enumerate(choices, 1))
    answers = "/".join(f"answer{n}" for n in range(1, len(choices) + 1))
    ask = "Please choose the correct answer to the question:"
    return f"{ask} {question}\n\n{numbered}\n\nAnswer format: {answers}"


def test_choices_are_taken_out_of_the_instruction(write):
    record = {"instruction": instruction("Who, or\nwhat?", ["a cat", "Answer: b", "c"]), "answer": "answer3"}
    (document,) = InstructionChoices(write(json.dumps([record])))
    assert document == {
        "question": "Who, or\nwhat?",
        "choices": {"text": ["a cat", "Answer: b", "c"], "label": ["answer1", "answer2", "answer3"]},
        "answerKey": "answer3",
    }


@pytest.mark.parametrize(
    "flaw",
    [
        {"instruction": "What is a cat?", "answer": "answer1"},
        {"instruction": instruction("A cat?", ["yes", "no"]), "answer": "answer3"},
    ],
)
def test_an_instruction_of_another_form_is_named(write, flaw):
    good = {"instruction": instruction("A cat?", ["yes", "no"]), "answer": "answer2"}
    with pytest.raises(UserError, match="record 2"):
        list(InstructionChoices(write(json.dumps([good, flaw]))))


def test_wikitext_is_cut_at_titles_not_at_headings(write):
    text = " \n = Cat = \n \n A cat @-@ like . \n = = Food = = \n Mice . \n = Dog = \n A dog . \n"
    assert list(WikiTextArticles(write(text))) == [
        "= Cat =\nA cat @-@ like .\n= = Food = =\nMice .",
        "= Dog =\nA dog .",
    ]


@pytest.mark.parametrize("reader", [HellaSwagText, InstructionChoices, WikiTextArticles])
def test_a_file_that_is_not_there_is_missing(reader, tmp_path, write):
    assert "no file" in reader(str(tmp_path / "none")).missing
    assert reader(write("")).missing is None


@pytest.mark.real_data
def test_the_published_files_are_read_whole(data_dir):
    """As many documents as the benchmarks have, and as many choices; 3,243 of HellaSwag are of ActivityNet."""
    documents = list(HellaSwagText(str(data_dir / "hellaswag" / "hellaswag_val_full.txt")))
    assert len(documents) == 10_042
    assert {len(document["choices"]) for document in documents} == {4}
    assert documents[0]["query"] == "Roof shingle removal: A man is sitting on a roof. He"
    assert sum(document["query"][-1] not in ".!?\"')" for document in documents) == 3_241
    assert len(list(InstructionChoices(str(data_dir / "lm-bench" / "ARC-Easy" / "test.json")))) == 2_376
    assert len(list(InstructionChoices(str(data_dir / "lm-bench" / "openbookqa" / "test.json")))) == 500
    assert len(list(FileTable(str(data_dir / "lambada" / "lambada_test.jsonl")))) == 5_153
    assert len(list(WikiTextArticles(str(data_dir / "wikitext-2" / "wiki.test.tokens")))) == 62
