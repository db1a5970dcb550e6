"""Other divergences than the reverse KL: how far the policy is from the reference, in place of the log-ratio."""

from dataclasses import dataclass
from math import log
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sempa_lightning.check import check

# e^80 is about as large as float32 and bfloat16 can hold with room for a scale.
_LARGEST_EXPONENT = 80.0


@runtime_checkable
class Divergence(Protocol):
    r"""Maps a log-ratio :math:`\log u` to :math:`f'(u)`, what the reward is under the constraint of an f-divergence.

    (f-DPO, Wang et al. 2023, arXiv 2309.16240.) The reward is known but for a constant of the prompt, so it fits only
    losses that see differences. :math:`f'(1)` is 0: where policy and reference agree, nothing changes.
    """

    def __call__(self, log_ratios: Float[Tensor, "anchors candidates"]) -> Float[Tensor, "anchors candidates"]:
        """Take the place of the log-ratios."""


@dataclass(frozen=True)
class ReverseKl:
    r"""The log-ratio itself, :math:`\log u`: DPO and SemPA."""

    def __call__(self, log_ratios: Float[Tensor, "anchors candidates"]) -> Float[Tensor, "anchors candidates"]:
        """Leave the log-ratios as they are."""
        return log_ratios


@dataclass(frozen=True)
class AlphaDivergence:
    r"""Between reverse and forward KL: :math:`(1 - u^{-\alpha}) / \alpha`.

    The closer to 1, the dearer it is to take probability from what the reference writes. Below a log-ratio of
    -80/alpha it stays what it is there, and gives no gradient. TRL's coefficient is 1 - alpha.

    Attributes:
        alpha: Above 0, which would be the reverse KL, and at most 1, the forward KL.

    Example:
        >>> import torch
        >>> AlphaDivergence(0.5)(torch.tensor([[0.0, 4.0]]).log1p())  # u = 1 and 5: 2 - 2 / sqrt(5)
        tensor([[0.0000, 1.1056]])
    """

    alpha: float

    def __post_init__(self) -> None:
        """Check the parameter."""
        check("divergence.alpha", self.alpha, lambda alpha: 0 < alpha <= 1, "above 0 and at most 1")

    def __call__(self, log_ratios: Float[Tensor, "anchors candidates"]) -> Float[Tensor, "anchors candidates"]:
        """Compute f'(u)."""
        return -torch.expm1((-self.alpha * log_ratios).clamp(max=_LARGEST_EXPONENT)) / self.alpha


@dataclass(frozen=True)
class JensenShannon:
    r"""The Jensen-Shannon divergence: :math:`\log \frac{2u}{1 + u}`, which is never above ln 2.

    Example:
        >>> import torch
        >>> JensenShannon()(torch.tensor([[0.0, 2.0]]).log1p())  # u = 1 and 3: ln 1.5
        tensor([[0.0000, 0.4055]])
    """

    def __call__(self, log_ratios: Float[Tensor, "anchors candidates"]) -> Float[Tensor, "anchors candidates"]:
        """Compute f'(u)."""
        return log(2) + F.logsigmoid(log_ratios)
