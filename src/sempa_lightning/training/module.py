"""The LightningModule: one optimiser step for each batch, and nothing of the mathematics."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sempa_lightning.errors import UserError
from sempa_lightning.scoring.logps import check_layout
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.training.objectives import Objective
from sempa_lightning.training.optimizers import OptimizerFactory, SchedulerFactory, parameter_groups
from sempa_lightning.types import PreferenceBatch, StepBatch, Terms, TextBatch

_SHOWN_ROWS = 8


class TrainingModule(LightningModule):
    """Trains a policy on an objective.

    A batch is a whole optimiser step (`StepBatch`), so that the loss is divided by the size of a fixed global set of
    rows: results do not depend on micro-batch size, accumulation or world size. Gradients are synchronised once a
    step. Checkpoints hold trainable parameters only.

    Args:
        policy: The model in training; frozen weights have `requires_grad=False`.
        reference: The frozen model; it is not a submodule, so checkpoints do not hold it.
        objective: Maps policy, reference and a step to losses.
        optimizer: Factory of the optimiser.
        scheduler: Factory of the learning-rate schedule.
        max_grad_norm: The gradient's norm is clipped to this; null to leave it.
    """

    def __init__(
        self,
        policy: nn.Module,
        reference: Reference,
        objective: Objective,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        max_grad_norm: float | None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # frozen weights are absent; on_load_checkpoint checks the rest
        self.policy = policy
        self._reference = reference
        self._objective = objective
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._max_grad_norm = max_grad_norm
        self._val_sums: dict[str, Tensor] = {}
        self._suspects: list[str] = []
        self._guilty_rows: list[str] = []
        self._layout_checked = False

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimiser and schedule for the run's number of steps."""
        optimizer = self._optimizer(parameter_groups(self.policy))
        num_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self._scheduler(optimizer, num_steps=num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Check that gradients will have somewhere to go."""
        if not any(parameter.requires_grad for parameter in self.policy.parameters()):
            raise UserError("no parameter of the policy is trainable: choose an adapter or full fine-tuning")

    def on_train_batch_start(self, step: StepBatch, batch_idx: int) -> None:  # noqa: ARG002 (Lightning's signature)
        """Check on the first batch that the model can be scored in the layout of the batches."""
        if not self._layout_checked:
            if isinstance(batch := step.micro_batches[0], PreferenceBatch):
                check_layout(self.policy, batch)
            self._layout_checked = True

    def training_step(self, step: StepBatch, _: int) -> None:
        """Accumulate the gradients of the step's micro-batches, clip, update."""
        optimizer: Any = self.optimizers()
        sums: dict[str, Tensor] = {}
        # Data-parallel strategies average gradients over processes; the sum is wanted.
        scale = step.weight * self.trainer.world_size / step.size
        for is_last, terms in self._terms(step):
            with contextlib.nullcontext() if is_last else self._unsynchronised():
                self.manual_backward(terms.losses.sum() * scale)
            _add(sums, {name: value * step.weight for name, value in terms.metrics.items()})
        self._stop_unless_finite()
        if self._max_grad_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self._max_grad_norm)
            self.log("train/grad_norm", norm)
        optimizer.step()
        optimizer.zero_grad()
        scheduler: Any = self.lr_schedulers()
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])
        scheduler.step()
        for name, total in self._total(sums).items():
            self.log(f"train/{name}", total / step.size, prog_bar=name == "loss")

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: ANN401 (Lightning's signature)
        """Have the last step validated, whatever the interval: Lightning validates where a run is about to stop."""
        self.trainer.should_stop |= self.global_step >= self.trainer.estimated_stepping_batches

    def _terms(self, step: StepBatch) -> Iterator[tuple[bool, Terms]]:
        """The objective on each micro-batch, and whether it is the last; rows that spoil it are noted."""
        found = self._objective(self.policy, self._reference, step)
        for place, terms in enumerate(found):
            finite = terms.losses.detach().isfinite().tolist()
            if not all(finite):
                batch = step.micro_batches[place]
                names = [name for name, is_finite in zip(batch.row_ids, finite, strict=True) if not is_finite]
                # Rows that share a sequence, or are compared with each other, are spoilt by one of them.
                self._suspects += names
                self._guilty_rows += self._guilty(batch, names)
            yield place == len(step.micro_batches) - 1, terms

    @torch.no_grad()
    def _guilty(self, batch: PreferenceBatch | TextBatch, suspects: list[str]) -> list[str]:
        """Names of the rows whose loss is not finite without the others, either."""
        if isinstance(batch, TextBatch):
            return suspects
        alone = [pad([row], pad_token_id=0).to(self.device) for row in batch.rows if row.id in suspects]
        steps = [StepBatch([row], size=1, weight=1.0) for row in alone]
        terms = [next(self._objective(self.policy, self._reference, step)) for step in steps]
        return [row.row_ids[0] for row, term in zip(alone, terms, strict=True) if not term.losses.isfinite().all()]

    def _stop_unless_finite(self) -> None:
        """Stop all processes together if the loss of a row is not finite in any of them."""
        number = torch.tensor(float(len(self._suspects)), device=self.device)
        if self.trainer.strategy.reduce(number, reduce_op="sum") == 0:
            return
        found = [(self._guilty_rows, self._suspects)]
        if self.trainer.world_size > 1:
            found *= self.trainer.world_size
            torch.distributed.all_gather_object(found, (self._guilty_rows, self._suspects))
        if not self.trainer.is_global_zero:
            raise SystemExit(1)  # the first process tells
        guilty, suspects = ([name for names in column for name in names] for column in zip(*found, strict=True))
        names = list(dict.fromkeys(guilty or suspects))
        more = f" and {len(names) - _SHOWN_ROWS} more" if len(names) > _SHOWN_ROWS else ""
        raise UserError(
            f"the loss is not finite at step {self.global_step} for rows {', '.join(names[:_SHOWN_ROWS])}{more}: look"
            " at these rows, lower optimizer.lr, or train in float32; earlier checkpoints are untouched"
        )

    def _unsynchronised(self) -> contextlib.AbstractContextManager[None]:
        wrapped = self.trainer.strategy.model
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else contextlib.nullcontext()

    def validation_step(self, step: StepBatch, _: int) -> None:
        """Add up the objective over this process's share."""
        for _, terms in self._terms(step):
            _add(self._val_sums, {name: value * step.weight for name, value in terms.metrics.items()})
        self._stop_unless_finite()
        share = torch.tensor(step.size / self.trainer.world_size, device=self.device)
        _add(self._val_sums, {"size": share})

    def on_validation_epoch_end(self) -> None:
        """Log means over all processes."""
        totals = self._total(self._val_sums)
        self._val_sums = {}
        size = totals.pop("size")
        self.log_dict({f"val/{name}": total / size for name, total in totals.items()})

    def _total(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add up over processes."""
        names = sorted(sums)
        totals = self.trainer.strategy.reduce(torch.stack([sums[name] for name in names]), reduce_op="sum")
        return dict(zip(names, totals, strict=True))

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # noqa: ANN401
        """Trainable parameters only."""
        trainable = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if name in trainable}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose parameters are not exactly the trainable ones."""
        expected, found = set(self.state_dict()), set(checkpoint["state_dict"])
        if expected != found:
            raise UserError(
                f"the checkpoint does not fit: missing {sorted(expected - found)[:3]},"
                f" unexpected {sorted(found - expected)[:3]}; is it of another model or adapter?"
            )


def _add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        sums[name] = sums[name] + value if name in sums else value
