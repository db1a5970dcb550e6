"""What tests of tasks on embeddings share."""

import pytest


@pytest.fixture
def tiny_subject(tiny_llama, tiny_tokenizer):
    """A tiny random model whose embeddings know the words of a text: the mean over all its tokens."""
    from sempa_lightning.evaluation.task import Subject
    from sempa_lightning.models.embedder import Readout
    from sempa_lightning.pooling.mean import mean
    from sempa_lightning.prompts.template import PromptTemplate
    from sempa_lightning.scoring.padded import Padded
    from sempa_lightning.scoring.reference import NoReference

    template = PromptTemplate("{sentence}")
    readout = Readout(template, str, -1, mean)
    return Subject(tiny_llama, tiny_tokenizer, readout, template, NoReference(tiny_llama), Padded())


@pytest.fixture
def encoded(monkeypatch):
    """The texts of each call of `Embedder.encode`."""
    from sempa_lightning.models.embedder import Embedder

    calls = []
    encode = Embedder.encode

    def spy(self, sentences, *args):
        calls.append(list(sentences))
        return encode(self, sentences, *args)

    monkeypatch.setattr(Embedder, "encode", spy)
    return calls


@pytest.fixture
def labelled(tmp_path):
    """Write a table of texts about two things, `number` of each, and give the source that reads it."""
    from sempa_lightning.data.labelled_texts import LabelledTable
    from sempa_lightning.data.table import FileTable

    def write(number, name="texts.csv", first=0):
        rows = [
            row
            for n in range(first, first + number)
            for row in (f"It rains on hill {n} .,rain", f"We eat {n} ripe pears .,food")
        ]
        (tmp_path / name).write_text("\n".join(["text,label", *rows]))
        return LabelledTable(FileTable(str(tmp_path / name)), "text", "label")

    return write


@pytest.fixture
def labelled_pairs(tmp_path):
    """Write a table of pairs, half of them of equal words, and give the source that reads it."""
    from sempa_lightning.data.labelled_texts import LabelledTable
    from sempa_lightning.data.table import FileTable

    def write(number, name="pairs.csv"):
        rows = [
            row
            for n in range(number)
            for row in (f"It rains on hill {n},On hill {n} it rains,1", f"It rains on hill {n},We eat {n} ripe pears,0")
        ]
        (tmp_path / name).write_text("\n".join(["one,two,label", *rows]))
        return LabelledTable(FileTable(str(tmp_path / name)), ["one", "two"], "label")

    return write
