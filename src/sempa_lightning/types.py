"""The named types that travel between data, scoring and training.

Dimension legend, used in every shape annotation of the package:

* `anchors`: sentences whose paraphrases are compared
* `candidates`: completions of one anchor, the chosen ones first
* `sequences`: prompt + completion, one for each live candidate (ragged: not every anchor has the same number)
* `tokens`: positions of a sequence, padding included
* `vocab`, `hidden`: the widths of the language model's output and of its hidden states
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class TokenizedRow(NamedTuple):
    """One anchor with its candidates as token ids.

    Attributes:
        id: Content hash of the text row.
        prompt_ids: The rendered paraphrase prompt, begin token included.
        completion_ids: One list for each candidate, the chosen ones first, each closed by the end token.
        num_chosen: How many of the candidates are chosen, best first.
    """

    id: str
    prompt_ids: list[int]
    completion_ids: list[list[int]]
    num_chosen: int


class PreferenceBatch(NamedTuple):
    """Candidates of some anchors, laid out for one forward pass.

    Prompts end and completions begin at the same column: prompts are padded on the left and completions on the
    right, so that the language-model head is needed for the columns of completions alone.

    Attributes:
        row_ids: Content hash of each anchor's row.
        input_ids: Token ids, sequences in row-major order of `candidate_mask`.
        attention_mask: True at real tokens.
        completion_mask: True at the tokens that are scored (completion and end token).
        candidate_mask: True where the anchor has that candidate.
        num_chosen: How many leading candidates are chosen.
    """

    row_ids: list[str]
    input_ids: Int[Tensor, "sequences tokens"]
    attention_mask: Bool[Tensor, "sequences tokens"]
    completion_mask: Bool[Tensor, "sequences tokens"]
    candidate_mask: Bool[Tensor, "anchors candidates"]
    num_chosen: Int[Tensor, " anchors"]

    @property
    def rejected_mask(self) -> Bool[Tensor, "anchors candidates"]:
        """True where the anchor has that candidate and it is rejected."""
        rank = torch.arange(self.candidate_mask.shape[1], device=self.candidate_mask.device)
        return self.candidate_mask & (rank >= self.num_chosen[:, None])

    def to(self, device: torch.device) -> "PreferenceBatch":
        """Move the tensors to a device."""
        return PreferenceBatch(self.row_ids, *(tensor.to(device) for tensor in self[1:]))


class TextBatch(NamedTuple):
    """Plain text for next-token prediction.

    Attributes:
        row_ids: A name for each sequence, for error messages.
        input_ids: Token ids.
        target_mask: True at tokens that are predicted from those before them; the first column never is.
    """

    row_ids: list[str]
    input_ids: Int[Tensor, "sequences tokens"]
    target_mask: Bool[Tensor, "sequences tokens"]


class StepBatch(NamedTuple):
    """One process's share of one optimiser step.

    Attributes:
        micro_batches: What is forwarded at once; gradients add up over them.
        size: What the summed loss of all processes is divided by: anchors (or target tokens) of the whole step.
        weight: 1, or 0 on a process that only keeps the others company because the step has no row left for it.
    """

    micro_batches: list[PreferenceBatch] | list[TextBatch]
    size: int
    weight: float


class Terms(NamedTuple):
    """What an objective returns for one micro-batch.

    Attributes:
        losses: One unreduced value for each anchor (or sequence); their sum over a step, divided by
            `StepBatch.size`, is what is minimised.
        metrics: Sums over anchors (or target tokens), detached, divided by `StepBatch.size` when logged.
    """

    losses: Tensor
    metrics: dict[str, Tensor]
