"""Blocks of plain text."""

import pytest
from lightning import Trainer

from sempa_lightning.data.corpus import CorpusDataModule
from sempa_lightning.errors import UserError

BLOCK = 16


@pytest.fixture
def corpus(sentences, tiny_tokenizer, tmp_path):
    def make(rewrite=None, texts=None, **changes):
        keys = {
            "block_size": BLOCK,
            "batch_size": 4,
            "micro_batch_tokens": 2 * BLOCK,
            "val_documents": 3,
            "max_documents": 60,
        }
        keys |= {"seed": 0, "num_workers": 0, "cache_dir": str(tmp_path)} | changes
        module = CorpusDataModule(texts or sentences, tiny_tokenizer, rewrite, **keys)
        module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        module.setup("fit")
        return module

    return make


def blocks(loader):
    return [ids for step in loader for batch in step.micro_batches for ids in batch.input_ids.tolist()]


def test_documents_are_joined_by_the_end_token_and_cut(corpus, sentences, tiny_tokenizer):
    module = corpus()
    end = tiny_tokenizer.eos_token_id
    stream = [i for text in sentences[:3] for i in [*tiny_tokenizer.encode(text, add_special_tokens=False), end]]
    whole = len(stream) // BLOCK
    assert whole >= 2
    assert blocks(module.val_dataloader()) == [stream[at * BLOCK : (at + 1) * BLOCK] for at in range(whole)]
    assert module.counts["val_tokens"] == whole * BLOCK


def test_train_and_val_share_no_document_and_every_block_is_seen_once(corpus, tiny_tokenizer):
    module = corpus()
    train = blocks(module.train_dataloader())
    assert len(train) * BLOCK == module.counts["train_tokens"]
    assert len({tuple(block) for block in train}) == len(train)
    assert not {tuple(block) for block in train} & {tuple(block) for block in blocks(module.val_dataloader())}


def test_size_counts_targets(corpus):
    step = next(iter(corpus().train_dataloader()))
    assert step.size == 4 * (BLOCK - 1) == sum(int(batch.target_mask.sum()) for batch in step.micro_batches)


def test_only_training_documents_are_rewritten(corpus):
    plain, twice = corpus(), corpus(lambda text: f"{text} {text}")
    assert blocks(twice.val_dataloader()) == blocks(plain.val_dataloader())
    assert twice.counts["train_tokens"] > 1.9 * plain.counts["train_tokens"]


@pytest.mark.parametrize("name", ["val_documents", "max_documents"])
def test_a_number_of_documents_must_be_one(corpus, name):
    with pytest.raises(UserError, match=f"data.{name}=-1 is not a whole number above 0"):
        corpus(**{name: -1})


def test_too_few_documents(corpus):
    with pytest.raises(UserError, match="60 documents cannot give 60 held-out ones"):
        corpus(val_documents=60)


def test_texts_that_change_while_they_are_read_leave_nothing_in_the_cache(corpus, sentences, tmp_path):
    class Growing:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter(sentences[: 50 + self.passes])

    with pytest.raises(UserError, match="the texts changed while they were read"):
        corpus(texts=Growing())
    assert len(list((tmp_path / "blocks").iterdir())) == 1, "those held out are the same"
