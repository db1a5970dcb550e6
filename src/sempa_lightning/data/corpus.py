"""Plain text cut into blocks of equal length, for next-token training."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Annotated, Any, TypedDict

import datasets
import torch
from lightning import LightningDataModule
from transformers import PreTrainedTokenizerBase

from sempa_lightning.assets import local_path
from sempa_lightning.check import Count, CountOrZero, Range, check_count
from sempa_lightning.data.cache import ContentHash, cached, tokenizer_content
from sempa_lightning.data.steps import StepLoader, StepLoaders
from sempa_lightning.errors import UserError
from sempa_lightning.models.user_text import UserText
from sempa_lightning.types import TextBatch


class Block(TypedDict):
    """Token ids of one block and its place in the corpus."""

    id: str
    input_ids: list[int]


class BlockCollator:
    """Stacks blocks; every token but the first of a block is a target."""

    def size(self, row: Block) -> int:
        """Target tokens."""
        return len(row["input_ids"]) - 1

    def num_tokens(self, rows: Sequence[Block]) -> int:
        """Tokens."""
        return sum(len(row["input_ids"]) for row in rows)

    def __call__(self, rows: Sequence[Block]) -> TextBatch:
        """Stack blocks of equal length."""
        input_ids = torch.tensor([row["input_ids"] for row in rows])
        target_mask = torch.ones_like(input_ids, dtype=torch.bool)
        target_mask[:, 0] = False
        row_ids = [row["id"] for row in rows]
        return TextBatch(row_ids=row_ids, input_ids=input_ids, target_mask=target_mask)


class CorpusDataModule(LightningDataModule):
    """Documents joined by the end token and cut into blocks; the first `val_documents` are held out.

    Args:
        texts: Documents, read anew by each pass.
        tokenizer: Turns them into ids; a document ends with its end token.
        rewrite: Applied to each training document; null leaves them.
        block_size: Tokens of a block.
        batch_size: Blocks of an optimiser step, over all processes.
        micro_batch_tokens: Tokens of one forward pass at most.
        val_documents: Documents held out for validation.
        max_documents: Documents read at most, all when null.
        seed: Seed of the order.
        num_workers: Loader processes.
        cache_dir: Where token ids are kept, keyed by content.

    Raises:
        UserError: If a number of documents is none, or there are too few to hold some out.
    """

    def __init__(  # noqa: PLR0913 (the keys of its config node)
        self,
        texts: Iterable[str],
        tokenizer: PreTrainedTokenizerBase,
        rewrite: Callable[[str], str] | None = None,
        *,
        block_size: Annotated[int, Range(2)],
        batch_size: Count,
        micro_batch_tokens: Count,
        val_documents: Count,
        max_documents: Count | None,
        seed: int,
        num_workers: CountOrZero,
        cache_dir: str,
    ) -> None:
        super().__init__()
        check_count("data.val_documents", val_documents)
        if max_documents is not None:
            check_count("data.max_documents", max_documents)
        if block_size > tokenizer.model_max_length:
            raise UserError(
                f"data.block_size={block_size}: the model has {tokenizer.model_max_length} positions; set"
                f" data.block_size={tokenizer.model_max_length}"
            )
        self._texts = texts
        self._tokenizer = tokenizer
        self._rewrite = rewrite
        self._block_size = block_size
        self._val_documents = val_documents
        self._max_documents = max_documents
        self._loaders = StepLoaders(BlockCollator(), batch_size, micro_batch_tokens, seed, num_workers)
        self._cache_dir = local_path(cache_dir) / "blocks"
        self._blocks: dict[str, datasets.Dataset] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Blocks and tokens of both splits, for the manifest."""
        return {f"{split}_tokens": len(blocks) * self._block_size for split, blocks in self._blocks.items()}

    def __str__(self) -> str:
        """A line with the tokens of both parts."""
        return ", ".join(f"{name}: {number}" for name, number in self.counts.items())

    def prepare_data(self) -> None:
        """Tokenise, once, on the first process of each node."""
        self.setup("fit")

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's signature)
        """Read both splits from the cache, building what is not there."""
        if self._blocks:
            return
        self._blocks = {split: self._read(split) for split in ("val", "train")}

    def _documents(self, split: str) -> Iterator[str]:
        texts = iter(islice(self._texts, self._max_documents))
        held_out = islice(texts, self._val_documents)
        if split == "val":
            return held_out
        deque(held_out, maxlen=0)
        return texts if self._rewrite is None else map(self._rewrite, texts)

    def _hashed(self, split: str, key: ContentHash) -> Iterator[str]:
        """Documents, as they are added to the hash of all that token ids follow from."""
        user_text = UserText(self._tokenizer)
        for part in (split, str(self._block_size), tokenizer_content(self._tokenizer)):
            key.add(part)
        for document in self._documents(split):
            key.add(user_text.shield(document))  # one that spells out special tokens once had other token ids
            yield document

    def _read(self, split: str) -> datasets.Dataset:
        key = ContentHash()
        number = sum(1 for _ in self._hashed(split, key))
        if split == "train" and not number:
            number = sum(1 for _ in self._documents("val"))
            raise UserError(
                f"{number} documents cannot give {self._val_documents} held-out ones and a training"
                " set; lower data.val_documents or give more text"
            )
        features = datasets.Features(
            {"id": datasets.Value("string"), "input_ids": datasets.List(datasets.Value("int32"))}
        )
        blocks, _ = cached(self._cache_dir, str(key), lambda _: self._cut(split, str(key)), features)
        return blocks

    def _cut(self, split: str, expected: str) -> Iterator[dict[str, Any]]:
        end, key = self._tokenizer.eos_token_id, ContentHash()
        user_text = UserText(self._tokenizer)
        documents = self._hashed(split, key)
        batches = iter(lambda: list(islice(documents, 64)), [])
        encoded = chain.from_iterable(
            user_text.encode([user_text.shield(text) for text in batch], add_special_tokens=False)["input_ids"]
            for batch in batches
        )
        stream = chain.from_iterable([*ids, end] for ids in encoded)
        number = 0
        while len(block := list(islice(stream, self._block_size))) == self._block_size:
            yield {"id": f"{split} block {number}", "input_ids": block}
            number += 1
        if str(key) != expected:
            raise UserError(
                "the texts changed while they were read: start again when they are complete; a source must"
                " give the same in each pass"
            )

    def train_dataloader(self) -> StepLoader:
        """Optimiser steps."""
        return self._loaders.train(self._blocks["train"], self.trainer)

    def val_dataloader(self) -> StepLoader:
        """The held-out documents, in order."""
        return self._loaders.val(self._blocks["val"], self.trainer)
