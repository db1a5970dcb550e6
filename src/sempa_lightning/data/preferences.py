"""Preference rows, cleaned, tokenised once and cut into optimiser steps."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from typing import Any, Literal

import datasets
from lightning import LightningDataModule
from transformers import PreTrainedTokenizerBase

from sempa_lightning.assets import local_path
from sempa_lightning.check import Count, CountOrZero
from sempa_lightning.data.cache import ContentHash, cached, tokenizer_content
from sempa_lightning.data.load import CleanRows, Counts
from sempa_lightning.data.negatives import Negatives, candidate_counts
from sempa_lightning.data.rows import Row, RowSource
from sempa_lightning.data.steps import StepLoader, StepLoaders
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.errors import UserError
from sempa_lightning.models.readout import Readout
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.layout import Layout
from sempa_lightning.types import PreferenceBatch, TokenizedRow

_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "prompt_ids": datasets.List(datasets.Value("int32")),
        "completion_ids": datasets.List(datasets.List(datasets.Value("int32"))),
        "num_chosen": datasets.Value("int32"),
        "sentence_ids": datasets.List(datasets.List(datasets.Value("int32"))),
        "text_masks": datasets.List(datasets.List(datasets.Value("bool"))),
        "anchor_ids": datasets.List(datasets.Value("int32")),
    }
)

# Of how many steps the manifest says what they are made of, and how many rows it shows.
_COUNTED_STEPS, _SHOWN_ROWS = 32, 3


class PreferenceCollator:
    """Lays rows out for one forward pass.

    Args:
        layout: How.
        pad_token_id: Fills the places that are masked.
    """

    def __init__(self, layout: Layout, pad_token_id: int) -> None:
        self._layout = layout
        self._pad_token_id = pad_token_id

    def size(self, row: TokenizedRow) -> int:  # noqa: ARG002 (every row counts the same)
        """One: the loss is a mean over anchors."""
        return 1

    def num_tokens(self, rows: Sequence[TokenizedRow]) -> int:
        """Tokens that the layout needs for the rows."""
        return self._layout.num_tokens(rows)

    def __call__(self, rows: Sequence[TokenizedRow]) -> PreferenceBatch:
        """Lay the rows out."""
        return self._layout(rows, self._pad_token_id)


class TokenizedRows:
    """The rows of a cached data set.

    Args:
        dataset: Columns named as the fields of `TokenizedRow`.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, place: int) -> TokenizedRow:
        return TokenizedRow(**self._dataset[place])


class PreferenceDataModule(LightningDataModule):
    """Preference rows for training, and held-out ones for the validation loss.

    Args:
        train: Rows that are trained on.
        dev: Rows of the validation loss.
        template: The paraphrase prompt.
        tokenizer: The policy's tokenizer.
        max_length: Longest prompt + completion, in tokens.
        unfit: What becomes of rows that cannot be scored (see `RowTokenizer`).
        group: Give each row all the rejected of its anchor (see `group_by_anchor`).
        max_rows: Rows read at most of each part, all when null.
        max_rejected: Rejected candidates of a row at most, from the first, all when null.
        negatives: Which rejected candidates a row is trained with in its step, in both parts. Without the given ones, a
            row needs none of its own.
        batch_size: Anchors of an optimiser step, over all processes.
        layout: How candidates are laid out in a forward pass.
        micro_batch_tokens: Tokens of one forward pass at most, unless a single anchor has more.
        seed: Seed of the order.
        num_workers: Loader processes.
        cache_dir: Where token ids are kept, keyed by content.
        path: The table that both sources read, for the manifest. A config names it here once, and its sources
            refer to it; null where they read other things.
        columns: The columns that they take from it, likewise.
        readout: How sentences are embedded, for objectives that embed them; null where none does.
        need_rejected: Whether rows without a rejected candidate are left out: a preference needs one, contrast does
            not.

    Raises:
        UserError: From `prepare_data` and `setup`, if the rows cannot be read, none of them is left, or one would be
            alone in its step and so without a rejected candidate.
    """

    def __init__(  # noqa: PLR0913 (the keys of its config node)
        self,
        train: RowSource,
        dev: RowSource,
        template: PromptTemplate,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: Count,
        unfit: Literal["error", "drop"],
        group: bool,
        max_rows: Count | None,
        max_rejected: Count | None,
        negatives: Negatives,
        batch_size: Count,
        layout: Layout,
        micro_batch_tokens: Count,
        seed: int,
        num_workers: CountOrZero,
        cache_dir: str,
        path: str | None = None,
        columns: Mapping[str, str | None] | None = None,
        readout: Readout | None = None,
        need_rejected: bool = True,
    ) -> None:
        super().__init__()
        self._origin = {"path": path, "columns": columns}
        self._sources = {"train": train, "dev": dev}
        self._tokenize = RowTokenizer(tokenizer, template, max_length, unfit, readout)
        self._group = group
        self._max_rows = max_rows
        self._max_rejected = max_rejected
        self._need_rejected = need_rejected
        self._negatives = negatives
        pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        collator = PreferenceCollator(layout, pad_token_id)
        together = partial(negatives, max_length=self._tokenize.limit)
        self._loaders = StepLoaders(collator, batch_size, micro_batch_tokens, seed, num_workers, together)
        self._cache_dir = local_path(cache_dir) / "preferences"
        self._rows: dict[str, TokenizedRows] = {}
        self._counts: dict[str, Counts] = {}

    @property
    def counts(self) -> dict[str, Any]:
        """Where the rows come from and, after `setup`, what became of them in each part; for the manifest."""
        parts = {part: counts.as_dict() for part, counts in self._counts.items()}
        if parts:
            parts["train"]["as_trained"] = self._as_trained
        return {**self._origin, **parts}

    @cached_property
    def _as_trained(self) -> dict[str, Any]:
        """What candidates the rows of the first steps have, where these come from, and some of them in words."""
        rows = list(chain.from_iterable(self._loaders.first(self._rows["train"], _COUNTED_STEPS)))
        shown = [self._in_words(row) for row in rows[:_SHOWN_ROWS]]
        return {"rows": len(rows), **candidate_counts(rows), "examples": shown}

    def _in_words(self, row: TokenizedRow) -> dict[str, Any]:
        decode, own = self._tokenize.tokenizer.decode, len(row.own_completion_ids)
        texts = [decode(completion[:-1]) for completion in row.completion_ids]
        return {
            "id": row.id,
            "prompt": decode(row.prompt_ids),
            "chosen": texts[: row.num_chosen],
            "given": texts[row.num_chosen : own],
            "in_batch": texts[own:],
        }

    def __str__(self) -> str:
        """A line for each part: what was read, kept and left out; and one for what steps make of the training rows."""
        lines = [f"{part}: {counts}" for part, counts in self._counts.items()]
        if self._rows and self._negatives != Negatives(given=True, in_batch=0):
            sizes = ", ".join(f"K={size}: {rows}" for size, rows in self._as_trained["candidates"].items())
            lines.append(f"as trained, the first {self._as_trained['rows']} rows: {sizes}")
        return "\n".join(lines)

    def prepare_data(self) -> None:
        """Read and tokenise, once, on the first process of each node."""
        self.setup("fit")

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's signature)
        """Take both parts from the cache, building what is not there."""
        if self._rows:
            return
        parts = {part: self._read(part) for part in self._sources}
        self._rows = {part: rows for part, (rows, _) in parts.items()}
        self._counts = {part: counts for part, (_, counts) in parts.items()}

    def _read(self, part: str) -> tuple[TokenizedRows, Counts]:
        rows = CleanRows(
            self._sources[part],
            group=self._group,
            max_rows=self._max_rows,
            max_rejected=self._max_rejected,
            need_rejected=self._need_rejected and self._negatives.given,
        )
        dataset, dropped = cached(
            self._cache_dir,
            _key(rows, self._tokenize),
            lambda dropped: self._records(rows, dropped),
            _FEATURES,
        )
        counts = rows.counts
        if dropped:
            kept = set(dataset["id"])
            counts = counts.without(dropped, (row for row in rows if row.id in kept))
        if not counts.kept:
            raise UserError(f"no row is left after tokenising: {counts}; {self._tokenize.remedy(dropped)}")
        self._check_steps(part, counts.kept, counts.candidates.get(1, 0))
        return TokenizedRows(dataset), counts

    def _check_steps(self, part: str, num_rows: int, pairs: int) -> None:
        """Refuse at once what would fail at the end of an epoch: a row that needs others in its step, and has none."""
        size = self._loaders.batch_size
        if size == 1 and not self._need_rejected and pairs:
            raise UserError(
                f"data.batch_size=1: {pairs} {part} rows have no rejected candidate, and nothing else to be contrasted"
                " with. Set data.batch_size=2 or more, or data.need_rejected=true to leave them out."
            )
        if self._negatives.in_batch and not self._negatives.given and (num_rows - 1) % size == 0:
            raise UserError(
                f"the last step of {num_rows} {part} rows has a single one, without others to take a rejected candidate"
                f" from: set data.batch_size to another number than {size}"
            )

    def _records(self, rows: CleanRows, dropped: Counter[str]) -> Iterator[dict[str, Any]]:
        before = rows.counts.fingerprint
        yield from ({name: getattr(row, name) for name in _FEATURES} for row in self._tokenize(rows, dropped))
        if rows.counts.fingerprint != before:
            raise UserError(
                "the data changed while they were read: start again when they are complete; a source must"
                " give the same in each pass"
            )

    def train_dataloader(self) -> StepLoader:
        """Optimiser steps."""
        return self._loaders.train(self._rows["train"], self.trainer)

    def val_dataloader(self) -> StepLoader:
        """The held-out rows, in order."""
        return self._loaders.val(self._rows["dev"], self.trainer)


def _key(rows: Iterable[Row], tokenize: RowTokenizer) -> str:
    """Hash everything that the token ids follow from, and nothing else."""
    readout, key = tokenize.readout, ContentHash()
    for part in (
        *_FEATURES,  # another version has other columns
        tokenizer_content(tokenize.tokenizer),
        repr(tokenize.template),
        tokenize.template.prompt(tokenize.tokenizer, ""),  # some chat templates write today's date
        str(tokenize.limit),
        tokenize.unfit,
        repr(readout and readout.template),
    ):
        key.add(part)
    for row in rows:
        key.add(row.id)
        for text in row.texts:  # those that spell out special tokens once had other token ids
            if (shielded := tokenize.user_text.shield(text)) != text:
                key.add(shielded)
        if readout is not None:
            key.add(readout.preprocess(row.anchor))
    return str(key)
