"""How fast training goes, and what it takes."""

import resource
import sys
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from sempa_lightning.types import PreferenceBatch, StepBatch, TextBatch


class Throughput(Callback):
    """Logs, for each step, speed, padding and memory of this process.

    * `perf/anchors_per_s`: rows of the step, over all processes, in a second (for text: target tokens)
    * `perf/tokens_per_s`: real tokens that this process's policy read
    * `perf/padding`: share of the positions that are padding, 0 to 1
    * `perf/peak_memory_gb`: most memory held so far: on a GPU, by tensors; else by the process
    """

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ANN401, ARG002
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401, ARG002
        batch: StepBatch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Log the step."""
        seconds = time.perf_counter() - self._start
        live, positions = map(sum, zip(*map(_tokens, batch.micro_batches), strict=True))
        numbers = {
            "anchors_per_s": batch.size / seconds,
            "tokens_per_s": live / seconds,
            "padding": 1 - live / positions,
            "peak_memory_gb": _peak_memory(pl_module.device) / 2**30,
        }
        pl_module.log_dict({f"perf/{name}": value for name, value in numbers.items()})


def _tokens(batch: PreferenceBatch | TextBatch) -> tuple[int, int]:
    """Real tokens and positions of a micro-batch."""
    if isinstance(batch, TextBatch):
        return batch.input_ids.numel(), batch.input_ids.numel()
    return int(batch.sequences.live.sum()), batch.sequences.live.numel()


def _peak_memory(device: torch.device) -> int:
    """In bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
