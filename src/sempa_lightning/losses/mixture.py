"""Several preference losses at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sempa_lightning.check import check, check_beta
from sempa_lightning.errors import UserError
from sempa_lightning.losses import Law, PreferenceLoss
from sempa_lightning.types import CandidateScores


@dataclass(frozen=True)
class Mixture:
    """The weighted sum of losses, each in its own form for several candidates.

    (MPO, Wang et al. 2024, arXiv 2411.10442.)

    Attributes:
        beta: Scale of the implicit rewards that are logged; members have their own, as a rule this one.
        losses: By name.
        weights: By the same names, above 0.

    Raises:
        UserError: If the names differ, there is none, or a number is not above 0.
    """

    beta: float
    losses: Mapping[str, PreferenceLoss]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        """Check scale, names and weights."""
        check_beta(self.beta)
        if not self.losses or self.losses.keys() != self.weights.keys():
            raise UserError(
                f"loss.weights are of {sorted(self.weights)}, but loss.losses are {sorted(self.losses)}: name the same"
            )
        for name, weight in self.weights.items():
            check(f"loss.weights.{name}", weight, lambda weight: 0 < weight < float("inf"), "above 0")

    @property
    def laws(self) -> frozenset[Law]:
        """Those that all members obey."""
        return frozenset.intersection(*(loss.laws for loss in self.losses.values()))

    def __call__(self, scores: CandidateScores) -> Float[Tensor, " anchors"]:
        """Compute the loss of each anchor."""
        return torch.stack([self.weights[name] * loss(scores) for name, loss in self.losses.items()]).sum(0)
