"""The LightningModule: one optimiser step for each batch, and nothing of the mathematics."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import causal_lm
from sempa_lightning.models.forward import check_causal
from sempa_lightning.models.sharding import is_sharded, whole
from sempa_lightning.scoring.layout import Layout
from sempa_lightning.scoring.logps import check_layout
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.training.micro_batches import cut
from sempa_lightning.training.objectives import Objective
from sempa_lightning.training.objectives.together import together
from sempa_lightning.training.optimizers import OptimizerFactory, SchedulerFactory, parameter_groups
from sempa_lightning.training.sharded import Sharded
from sempa_lightning.types import PreferenceBatch, StepBatch, Terms, TextBatch

_SHOWN = 8


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
        layout: How candidates are laid out where micro-batches must be cut anew, since they did not fit into memory.
    """

    def __init__(
        self,
        policy: nn.Module,
        reference: Reference,
        objective: Objective,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        max_grad_norm: float | None,
        layout: Layout,
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
        self._layout = layout
        self._grad_norm: Tensor | None = None
        self._parts = 1
        self._val_sums: dict[str, Tensor] = {}
        self._suspects: list[str] = []
        self._guilty_rows: list[str] = []
        self._layout_checked = False

    def configure_model(self) -> None:
        """Spread the policy's weights over processes, where the strategy does so."""
        if isinstance(self.trainer.strategy, Sharded) and not is_sharded(self.policy):
            self.trainer.strategy.shard(self.policy)

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

    def on_train_start(self) -> None:
        """Take no step where a run goes on from its last: Lightning would, if that is no multiple of the interval."""
        self.trainer.should_stop |= self.global_step >= self.trainer.estimated_stepping_batches
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        """Give the first step of a resumed run the rate of its schedule, which may have more steps than before."""
        scheduler: Any = self.lr_schedulers()
        if self.global_step and isinstance(scheduler, LambdaLR):
            groups = scheduler.optimizer.param_groups
            for group, base, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
                group["lr"] = base * factor(scheduler.last_epoch)

    def training_step(self, step: StepBatch, _: int) -> None:
        """Accumulate the gradients of the step's micro-batches, clip, update."""
        optimizer: Any = self.optimizers()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        sums = self._sums(step, self._learn)
        self._add_up_gradients(parameters)
        self._stop_unless_finite()
        if self.global_step == 0:
            self._check_gradients()
        optimizer.step()
        if self._grad_norm is not None:
            self.log("train/grad_norm", self._grad_norm)
        optimizer.zero_grad()
        scheduler: Any = self.lr_schedulers()
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])
        scheduler.step()
        for name, total in self._total(sums).items():
            self.log(f"train/{name}", total / step.size, prog_bar=name == "loss")

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients: in `training_step` those of fp16 are still multiplied by the scale of the loss."""
        if self._max_grad_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._grad_norm = whole(nn.utils.clip_grad_norm_(parameters, self._max_grad_norm))

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: ANN401 (Lightning's signature)
        """Have the last step validated, whatever the interval: Lightning validates where a run is about to stop."""
        self.trainer.should_stop |= self.global_step >= self.trainer.estimated_stepping_batches

    def _sums(self, step: StepBatch, use: Callable[[Tensor, bool], None]) -> dict[str, Tensor]:
        """Sums of metrics over the step; with each micro-batch's share of the loss, and whether it is the last, `use`.

        If a process runs out of memory, all begin anew with micro-batches of half the size, and stay with these.

        Raises:
            UserError: If the smallest micro-batch is too large, or if processes share the weights.
        """
        while True:
            smaller, out_of_memory, too_large = cut(step, self._parts, self._layout), False, False
            try:
                sums = self._pass(smaller, use)
            except torch.OutOfMemoryError:
                out_of_memory = True
                too_large = all(len(batch.row_ids) == 1 for batch in smaller.micro_batches)
            if out_of_memory and is_sharded(self.policy):  # the others wait for its part of a layer
                raise UserError(
                    f"out of memory at step {self.global_step}: lower data.micro_batch_tokens, or set"
                    " +model.gradient_checkpointing=true"
                )
            told = torch.tensor([float(out_of_memory), float(too_large)], device=self.device)
            failures = self.trainer.strategy.reduce(told, reduce_op="sum").tolist()
            if not failures[0]:
                return sums
            if failures[1]:
                raise UserError(
                    f"out of memory at step {self.global_step} with a single row in a micro-batch: set"
                    " +model.gradient_checkpointing=true, or lower data.max_length"
                )
            self._suspects, self._guilty_rows = [], []
            self.zero_grad()
            torch.cuda.empty_cache()
            self._parts *= 2
            self.print(
                f"out of memory at step {self.global_step}: micro-batches are 1/{self._parts} of"
                " data.micro_batch_tokens from here on"
            )

    def _pass(self, step: StepBatch, use: Callable[[Tensor, bool], None]) -> dict[str, Tensor]:
        if not self._layout_checked:
            together(self.policy, partial(check_causal, self.policy, again=True))
            batch = step.micro_batches[0]
            if isinstance(batch, PreferenceBatch) and getattr(self._objective, "uses_layout", True):
                together(self.policy, partial(check_layout, self.policy, batch))
            self._layout_checked = True
        sums: dict[str, Tensor] = {}
        for place, (terms, weight) in enumerate(zip(self._terms(step), step.weights, strict=True)):
            use(terms.losses.sum() * weight / step.size, place == len(step.weights) - 1)
            _add(sums, {name: value * weight for name, value in terms.metrics.items()})
        return sums

    def _learn(self, loss: Tensor, is_last: bool) -> None:
        """Add the gradients of a loss; a sharded policy's processes exchange them with those of the last micro-batch.

        Raises:
            UserError: If the loss does not depend on a trainable weight: some layers hide an adapter from autograd.
        """
        if not loss.requires_grad:
            raise UserError(
                f"adapter: no gradient flows from the loss of {type(causal_lm(self.policy)).__name__} to the trainable"
                " weights. Set adapter=none reference=frozen, or choose another model."
            )
        if isinstance(self.policy, FSDPModule):
            self.policy.set_requires_gradient_sync(is_last)
        wrapped = self.trainer.strategy.model
        with wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else contextlib.nullcontext():
            self.manual_backward(loss)

    def _add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over processes, once a step and only when none of them has run out of memory."""
        if self.trainer.world_size > 1 and not is_sharded(self.policy):
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            for work in [torch.distributed.all_reduce(gradient, async_op=True) for gradient in gradients]:
                work.wait()

    def _check_gradients(self) -> None:
        """Refuse an adapter that the objective does not reach everywhere: parts of it would stay as they are.

        Raises:
            UserError: If one of its parameters has no gradient after the first step.
        """
        left = [name for name, p in self.policy.named_parameters() if p.requires_grad and p.grad is None]
        if left and isinstance(self.policy, PeftModel):  # of all weights, some objectives leave the head alone
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            raise UserError(
                f"no gradient reaches {', '.join(left[:_SHOWN])}{more}: name them in adapter.exclude_modules, or"
                " choose an objective that uses them"
            )

    def _terms(self, step: StepBatch) -> Iterator[Terms]:
        """The objective on each micro-batch; rows that spoil it are noted."""
        found = self._objective(self.policy, self._reference, step)
        for place, terms in enumerate(found):
            finite = terms.losses.detach().isfinite().tolist()
            if not all(finite):
                batch = step.micro_batches[place]
                names = [name for name, is_finite in zip(batch.row_ids, finite, strict=True) if not is_finite]
                # Rows that share a sequence, or are compared with each other, are spoilt by one of them.
                self._suspects += names
                self._guilty_rows += self._guilty(batch, names)
            yield terms

    @torch.no_grad()
    def _guilty(self, batch: PreferenceBatch | TextBatch, suspects: list[str]) -> list[str]:
        """Names of the rows whose loss is not finite without the others, either."""
        if isinstance(batch, TextBatch) or is_sharded(self.policy):  # no process can go through it alone
            return suspects
        alone = [pad([row], pad_token_id=0).to(self.device) for row in batch.rows if row.id in suspects]
        steps = [StepBatch([row], size=1, weights=[1.0]) for row in alone]
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
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise UserError(
            f"the loss is not finite at step {self.global_step} for rows {', '.join(names[:_SHOWN])}{more}: look"
            " at these rows, lower optimizer.lr, or train in float32; earlier checkpoints are untouched"
        )

    def validation_step(self, step: StepBatch, _: int) -> None:
        """Add up the objective over this process's share."""
        _add(self._val_sums, self._sums(step, lambda *_: None))
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

    def trained(self) -> dict[str, Tensor]:
        """The policy's trained weights by name, whole on the first process; all must ask for them."""
        state = self.trainer.strategy.lightning_module_state_dict()
        return {name.removeprefix("policy."): value for name, value in state.items()}

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
