"""Several objectives at once."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sempa_lightning.check import check_weight
from sempa_lightning.errors import UserError
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.training.objectives import Objective
from sempa_lightning.types import StepBatch, Terms


class Weighted(NamedTuple):
    """An objective and what it counts."""

    objective: Objective
    weight: float


class Joint:
    """The weighted sum of objectives on the same rows.

    Each objective's loss is logged as `loss/<name>`, before its weight; its other metrics keep their names.

    Args:
        objectives: By name; all are trained on the same kind of data.

    Raises:
        UserError: If there is none, or a weight is below 0.
    """

    def __init__(self, objectives: Mapping[str, Weighted]) -> None:
        if not objectives:
            raise UserError("a joint objective without members: give objective.objectives.<name>")
        for name, weighted in objectives.items():
            check_weight(f"objective.objectives.{name}.weight", weighted.weight)
        self._objectives = objectives

    @property
    def uses_layout(self) -> bool:
        """Whether a member scores completions in the layout of the batch."""
        return any(getattr(weighted.objective, "uses_layout", True) for weighted in self._objectives.values())

    def __call__(self, policy: nn.Module, reference: Reference, step: StepBatch) -> Iterator[Terms]:
        """Compute all objectives on each micro-batch.

        Raises:
            UserError: If two objectives bring a term of the same name, or want other data.
        """
        members = [weighted.objective(policy, reference, step) for weighted in self._objectives.values()]
        for terms in zip(*members, strict=True):
            yield self._sum(terms)

    def _sum(self, terms: tuple[Terms, ...]) -> Terms:
        metrics: dict[str, Tensor] = {}
        for name, term in zip(self._objectives, terms, strict=True):
            own = {f"loss/{name}" if key == "loss" else key: value for key, value in term.metrics.items()}
            if twice := metrics.keys() & own.keys():
                raise UserError(
                    f"two objectives have a term {sorted(twice)[0]}: give it to one of them, with one weight"
                )
            metrics |= own
        weights = [weighted.weight for weighted in self._objectives.values()]
        losses = torch.stack([weight * term.losses for weight, term in zip(weights, terms, strict=True)]).sum(0)
        return Terms(losses, metrics | {"loss": losses.detach().sum()})
