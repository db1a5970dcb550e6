"""Optimiser steps as fixed global sets of rows, whatever the micro-batch, accumulation or world size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from sempa_lightning.check import check_count
from sempa_lightning.types import PreferenceBatch, StepBatch, TextBatch

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)
Row_contra = TypeVar("Row_contra", contravariant=True)
Batch = PreferenceBatch | TextBatch


@runtime_checkable
class Rows(Protocol[Row_co]):
    """Rows by their place, in memory or on disk."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, place: int, /) -> Row_co:
        """One of them."""


@runtime_checkable
class Collator(Protocol[Row_contra]):
    """Lays rows out for a forward pass and says how much each counts."""

    def size(self, row: Row_contra) -> int:
        """What the row adds to `StepBatch.size`."""

    def num_tokens(self, rows: Sequence[Row_contra]) -> int:
        """Tokens that the rows take up in one forward pass."""

    def __call__(self, rows: Sequence[Row_contra]) -> Batch:
        """Lay out one micro-batch."""


class StepSampler(Sampler[list[int]]):
    """Yields the global set of rows of each optimiser step: a permutation by (seed, epoch), cut into steps.

    Args:
        num_rows: Rows of the data set; each is used once an epoch.
        step_size: Rows of a step, over all processes; the last step of an epoch takes what is left.
        seed: Seed of the order.
        steps_done: Tells how many steps the run has done, so that a resumed run goes on with the next one.
    """

    def __init__(self, num_rows: int, step_size: int, seed: int, steps_done: Callable[[], int]) -> None:
        self._num_rows = num_rows
        self._step_size = step_size
        self._seed = seed
        self._steps_done = steps_done

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(range(0, self._num_rows, self._step_size))

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = divmod(self._steps_done(), len(self))
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        order = torch.randperm(self._num_rows, generator=generator).tolist()
        for step in range(first, len(self)):
            yield order[step * self._step_size : (step + 1) * self._step_size]


class StepDataset(Dataset[StepBatch], Generic[Row]):
    """Turns the global rows of a step into this process's share of it.

    Args:
        rows: All rows.
        collator: Lays out micro-batches.
        micro_batch_tokens: Tokens of one forward pass at most, unless a single row has more.
        rank: This process.
        world_size: How many processes share a step.
        together: What the rows of a step become beside each other, before processes share them; one for each.
    """

    def __init__(
        self,
        rows: Rows[Row],
        collator: Collator[Row],
        micro_batch_tokens: int,
        rank: int,
        world_size: int,
        together: Callable[[list[Row]], list[Row]] = list,
    ) -> None:
        self._rows = rows
        self._collator = collator
        self._together = together
        self._micro_batch_tokens = micro_batch_tokens
        self._rank = rank
        self._world_size = world_size

    def __getitem__(self, step: list[int]) -> StepBatch:
        rows = self._together([self._rows[index] for index in step])
        cuts = [self._cut(rows[rank :: self._world_size]) for rank in range(self._world_size)]
        own = cuts[self._rank]
        # Processes that share the weights of a model can go through it together only.
        padding = [[min(rows, key=self._tokens)]] * (max(map(len, cuts)) - len(own))
        return StepBatch(
            micro_batches=[self._collator(rows) for rows in own + padding],  # type: ignore[arg-type]
            size=sum(self._collator.size(row) for row in rows),
            weights=[1.0] * len(own) + [0.0] * len(padding),
        )

    def _tokens(self, row: Row) -> int:
        return self._collator.num_tokens([row])

    def _cut(self, rows: list[Row]) -> list[list[Row]]:
        """Runs of rows within the budget, longest rows first; none of no rows."""
        cuts: list[list[Row]] = []
        for row in sorted(rows, key=self._tokens, reverse=True):
            if cuts and self._collator.num_tokens([*cuts[-1], row]) <= self._micro_batch_tokens:
                cuts[-1].append(row)
            else:
                cuts.append([row])
        return cuts


class StepLoader(DataLoader[StepBatch]):
    """A loader of optimiser steps that Lightning may resume in the middle of an epoch.

    Its place follows from the number of steps done, so there is no state of its own to keep.
    """

    def __init__(self, dataset: StepDataset[Row], steps: Iterable[list[int]], num_workers: int) -> None:
        super().__init__(
            dataset,
            sampler=steps,
            batch_size=None,
            num_workers=num_workers,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # each pass draws from it, and not from what dropout draws from
        )

    def state_dict(self) -> dict[str, int]:
        """Nothing: see the class."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take nothing up: see the class."""


@dataclass(frozen=True)
class StepLoaders(Generic[Row]):
    """Makes the loaders of a data module.

    Attributes:
        collator: Lays out micro-batches.
        batch_size: Rows of an optimiser step, over all processes.
        micro_batch_tokens: Tokens of one forward pass at most, unless a single row has more.
        seed: Seed of the order.
        num_workers: Loader processes.
        together: What the rows of a step become beside each other (see `StepDataset`).

    Raises:
        UserError: If there is not at least one row in a step and one token in a pass.
    """

    collator: Collator[Row]
    batch_size: int
    micro_batch_tokens: int
    seed: int
    num_workers: int
    together: Callable[[list[Row]], list[Row]] = list

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("batch_size", "micro_batch_tokens"):
            check_count(f"data.{name}", getattr(self, name))

    def first(self, rows: Rows[Row], number: int) -> Iterator[list[Row]]:
        """The rows of the first steps of a run, of one epoch at most, as they are trained on."""
        steps = StepSampler(len(rows), self.batch_size, self.seed, lambda: 0)
        return (self.together([rows[index] for index in step]) for step in islice(steps, number))

    def train(self, rows: Rows[Row], trainer: Trainer | None) -> StepLoader:
        """Shuffled steps, from the trainer's next one to the end of its epoch."""
        assert trainer is not None
        steps = StepSampler(len(rows), self.batch_size, self.seed, lambda: trainer.global_step)
        return self._loader(rows, steps, trainer)

    def val(self, rows: Rows[Row], trainer: Trainer | None) -> StepLoader:
        """All rows in their order."""
        assert trainer is not None
        starts = range(0, len(rows), self.batch_size)
        steps = [list(range(start, min(start + self.batch_size, len(rows)))) for start in starts]
        return self._loader(rows, steps, trainer)

    def _loader(self, rows: Rows[Row], steps: Iterable[list[int]], trainer: Trainer) -> StepLoader:
        rank, world_size = trainer.global_rank, trainer.world_size
        dataset = StepDataset(rows, self.collator, self.micro_batch_tokens, rank, world_size, self.together)
        return StepLoader(dataset, steps, self.num_workers)


def _unchanged(step: Any) -> Any:  # noqa: ANN401 (the loader hands over what the data set gave)
    return step
