"""Plain text cut into blocks of equal length, for next-token training."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import torch
from lightning import LightningDataModule
from transformers import PreTrainedTokenizerBase

from sempa_lightning.assets import local_path
from sempa_lightning.data.cache import cached, content_hash
from sempa_lightning.data.steps import StepDataset, StepLoader, StepSampler
from sempa_lightning.errors import UserError
from sempa_lightning.types import TextBatch


class Block(dict[str, Any]):
    """Token ids of one block (`input_ids`) and its place in the corpus (`id`)."""


class BlockCollator:
    """Stacks blocks; every token but the first of a block is a target."""

    def size(self, row: Block) -> int:
        """Target tokens."""
        return len(row["input_ids"]) - 1

    def length(self, row: Block) -> int:
        """Tokens."""
        return len(row["input_ids"])

    def __call__(self, rows: Sequence[Block]) -> TextBatch:
        """Stack blocks of equal length."""
        input_ids = torch.tensor([row["input_ids"] for row in rows])
        target_mask = torch.ones_like(input_ids, dtype=torch.bool)
        target_mask[:, 0] = False
        return TextBatch(row_ids=[str(row["id"]) for row in rows], input_ids=input_ids, target_mask=target_mask)


class CorpusDataModule(LightningDataModule):
    """Documents, joined by the end token and cut into blocks; the first `val_documents` are held out.

    Args:
        texts: Documents.
        tokenizer: Turns them into ids; a document ends with its end token.
        block_size: Tokens of a block.
        batch_size: Blocks of an optimiser step, over all processes.
        micro_batch_size: Blocks of one forward pass.
        val_documents: Documents held out for validation.
        max_documents: Documents read at most, all when null.
        seed: Seed of the order.
        num_workers: Loader processes.
        cache_dir: Where token ids are kept, keyed by content.

    Raises:
        UserError: If there are too few documents to hold some out.
    """

    def __init__(
        self,
        texts: Iterable[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        block_size: int,
        batch_size: int,
        micro_batch_size: int,
        val_documents: int,
        max_documents: int | None,
        seed: int,
        num_workers: int,
        cache_dir: str,
    ) -> None:
        super().__init__()
        self._texts = texts
        self._tokenizer = tokenizer
        self._block_size = block_size
        self._batch_size = batch_size
        self._micro_batch_size = micro_batch_size
        self._val_documents = val_documents
        self._max_documents = max_documents
        self._seed = seed
        self._num_workers = num_workers
        self._cache_dir = local_path(cache_dir) / "blocks"
        self._blocks: dict[str, datasets.Dataset] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Blocks and tokens of both splits, for the manifest."""
        return {f"{split}_tokens": len(blocks) * self._block_size for split, blocks in self._blocks.items()}

    def prepare_data(self) -> None:
        """Tokenise, once, on the first process of each node."""
        self.setup("fit")

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's signature)
        """Read both splits from the cache, building what is not there."""
        if self._blocks:
            return
        documents = list(islice(self._texts, self._max_documents))
        if len(documents) <= self._val_documents:
            raise UserError(
                f"{len(documents)} documents cannot give {self._val_documents} held-out ones and a training set;"
                " lower data.val_documents or give more text"
            )
        splits = {"val": documents[: self._val_documents], "train": documents[self._val_documents :]}
        self._blocks = {split: self._read(split, part) for split, part in splits.items()}

    def _read(self, split: str, documents: list[str]) -> datasets.Dataset:
        backend: Any = self._tokenizer
        key = content_hash(split, str(self._block_size), backend.backend_tokenizer.to_str(), *documents)
        features = datasets.Features(
            {"id": datasets.Value("string"), "input_ids": datasets.List(datasets.Value("int32"))}
        )
        return cached(Path(self._cache_dir), key, lambda: self._cut(split, documents), features)

    def _cut(self, split: str, documents: list[str]) -> Iterator[dict[str, Any]]:
        end = self._tokenizer.eos_token_id
        batches = (documents[start : start + 64] for start in range(0, len(documents), 64))
        encoded = chain.from_iterable(
            self._tokenizer(batch, add_special_tokens=False)["input_ids"] for batch in batches
        )
        stream = chain.from_iterable([*ids, end] for ids in encoded)
        number = 0
        while len(block := list(islice(stream, self._block_size))) == self._block_size:
            yield {"id": f"{split} block {number}", "input_ids": block}
            number += 1

    def train_dataloader(self) -> StepLoader:
        """Optimiser steps."""
        assert self.trainer is not None
        trainer, blocks = self.trainer, self._blocks["train"]
        sampler = StepSampler(len(blocks), self._batch_size, self._seed, lambda: trainer.global_step)
        return self._loader(blocks, sampler)

    def val_dataloader(self) -> StepLoader:
        """The held-out documents, in order."""
        blocks = self._blocks["val"]
        steps = range(0, len(blocks), self._batch_size)
        return self._loader(
            blocks, [list(range(at, min(at + self._batch_size, len(blocks)))) for at in steps]
        )

    def _loader(self, blocks: datasets.Dataset, steps: Any) -> StepLoader:
        assert self.trainer is not None
        dataset: StepDataset[Block] = StepDataset(
            blocks, BlockCollator(), self._micro_batch_size, self.trainer.global_rank, self.trainer.world_size
        )
        return StepLoader(dataset, steps, self._num_workers)
