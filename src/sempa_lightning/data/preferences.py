"""Preference rows, cleaned, tokenised once and cut into optimiser steps."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import datasets
from lightning import LightningDataModule
from transformers import PreTrainedTokenizerBase

from sempa_lightning.assets import local_path
from sempa_lightning.data.cache import cached, content_hash, tokenizer_content
from sempa_lightning.data.load import Counts, load_rows
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
    }
)


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
        UserError: From `prepare_data` and `setup`, if the rows cannot be read or none of them is left.
    """

    def __init__(  # noqa: PLR0913 (the keys of its config node)
        self,
        train: RowSource,
        dev: RowSource,
        template: PromptTemplate,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        unfit: Literal["error", "drop"],
        group: bool,
        max_rows: int | None,
        max_rejected: int | None,
        batch_size: int,
        layout: Layout,
        micro_batch_tokens: int,
        seed: int,
        num_workers: int,
        cache_dir: str,
        path: str | None = None,
        columns: Mapping[str, str] | None = None,
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
        pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        collator = PreferenceCollator(layout, pad_token_id)
        self._loaders = StepLoaders(collator, batch_size, micro_batch_tokens, seed, num_workers)
        self._cache_dir = local_path(cache_dir) / "preferences"
        self._rows: dict[str, TokenizedRows] = {}
        self._counts: dict[str, Counts] = {}

    @property
    def counts(self) -> dict[str, Any]:
        """Where the rows come from and, after `setup`, what became of them in each part; for the manifest."""
        return {**self._origin, **{part: counts.as_dict() for part, counts in self._counts.items()}}

    def __str__(self) -> str:
        """A line for each part: what was read, kept and left out."""
        return "\n".join(f"{part}: {counts}" for part, counts in self._counts.items())

    def prepare_data(self) -> None:
        """Read and tokenise, once, on the first process of each node."""
        self.setup("fit")

    def setup(self, stage: str) -> None:  # noqa: ARG002 (Lightning's signature)
        """Take both parts from the cache, building what is not there."""
        if self._rows:
            return
        parts = {part: self._read(source) for part, source in self._sources.items()}
        self._rows = {part: rows for part, (rows, _) in parts.items()}
        self._counts = {part: counts for part, (_, counts) in parts.items()}

    def _read(self, source: RowSource) -> tuple[TokenizedRows, Counts]:
        rows, counts = load_rows(
            source,
            group=self._group,
            max_rows=self._max_rows,
            max_rejected=self._max_rejected,
            need_rejected=self._need_rejected,
        )
        dataset, dropped = cached(
            self._cache_dir,
            _key(rows, self._tokenize),
            lambda dropped: self._records(rows, dropped),
            _FEATURES,
        )
        if dropped:
            kept = set(dataset["id"])
            counts = counts.without(dropped, [row for row in rows if row.id in kept])
        if not counts.kept:
            raise UserError(f"no row is left after tokenising: {counts}; raise data.max_length or change prompt")
        return TokenizedRows(dataset), counts

    def _records(self, rows: list[Row], dropped: Counter[str]) -> Iterator[dict[str, Any]]:
        return (row._asdict() for row in self._tokenize(rows, dropped))

    def train_dataloader(self) -> StepLoader:
        """Optimiser steps."""
        return self._loaders.train(self._rows["train"], self.trainer)

    def val_dataloader(self) -> StepLoader:
        """The held-out rows, in order."""
        return self._loaders.val(self._rows["dev"], self.trainer)


def _key(rows: list[Row], tokenize: RowTokenizer) -> str:
    """Hash everything that the token ids follow from, and nothing else."""
    return content_hash(
        *_FEATURES,  # another version has other columns
        tokenizer_content(tokenize.tokenizer),
        repr(tokenize.template),
        tokenize.template.prompt(tokenize.tokenizer, ""),  # some chat templates write today's date
        str(tokenize.max_length),
        tokenize.unfit,
        *(row.id for row in rows),
        *_readout_content(rows, tokenize.readout),
    )


def _readout_content(rows: list[Row], readout: Readout | None) -> list[str]:
    """What sentence ids follow from: the template, and what pre-processing makes of the rows."""
    return [] if readout is None else [repr(readout.template), *(readout.preprocess(row.anchor) for row in rows)]
