"""The named types that travel between data, scoring and training.

Dimension legend, used in every shape annotation of the package:

* `anchors`: sentences whose paraphrases are compared
* `candidates`: completions of one anchor, the chosen ones first
* `sequences`: rows of token ids of a forward pass: prompt + completion of one candidate, or of many
* `scored`: tokens of completions, end tokens included
* `positions`: places in a completion, as many as the longest has
* `tokens`: positions of a sequence, padding included
* `vocab`, `hidden`: the widths of the language model's output and of its hidden states
* `width`: that of a pooled vector: `hidden`, or more where a pooling puts several vectors side by side
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def padded(rows: Sequence[Sequence[int]], padding: int) -> Int[Tensor, "rows width"]:
    """Rows of numbers as one tensor, the shorter ones filled up on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows], dtype=torch.long)


class TokenizedRow(NamedTuple):
    """One anchor with its candidates as token ids.

    Attributes:
        id: Content hash of the text row.
        prompt_ids: The rendered paraphrase prompt, begin token included.
        completion_ids: One list for each candidate, the chosen ones first, each closed by the end token.
        num_chosen: How many of the candidates are chosen, best first.
        sentence_ids: Anchor and candidates as a readout reads them, each in its prompt; empty if nothing embeds them.
        text_masks: Of each of these prompts, True at the tokens of the sentence itself.
        anchor_ids: The anchor as a candidate would be written; empty if its first token merges with the prompt.
        num_in_batch: How many of the last candidates are not the row's own, but chosen ones of other anchors of the
            optimiser step.
    """

    id: str
    prompt_ids: list[int]
    completion_ids: list[list[int]]
    num_chosen: int
    sentence_ids: list[list[int]] = []  # noqa: RUF012 (never changed)
    text_masks: list[list[bool]] = []  # noqa: RUF012 (never changed)
    anchor_ids: list[int] = []  # noqa: RUF012 (never changed)
    num_in_batch: int = 0

    @property
    def own_completion_ids(self) -> list[list[int]]:
        """The candidates that the row itself has brought."""
        return self.completion_ids[: len(self.completion_ids) - self.num_in_batch]


class PaddedSequences(NamedTuple):
    """One sequence, prompt and completion, for each live candidate, in row-major order of `candidate_mask`.

    Prompts end and completions begin at the same column: prompts are padded on the left and completions on the
    right, so that the language-model head is needed for the columns of completions alone.

    Attributes:
        input_ids: Token ids.
        attention_mask: True at real tokens.
        completion_mask: True at the tokens that are scored (completion and end token).
    """

    input_ids: Int[Tensor, "sequences tokens"]
    attention_mask: Bool[Tensor, "sequences tokens"]
    completion_mask: Bool[Tensor, "sequences tokens"]

    @property
    def live(self) -> Bool[Tensor, "sequences tokens"]:
        """True at real tokens."""
        return self.attention_mask


class RightPaddedSequences(NamedTuple):
    """One sequence, prompt and completion, for each live candidate, in row-major order of `candidate_mask`.

    Padding stands behind the completion alone, where a causal model does not look: there is nothing to mask.

    Attributes:
        input_ids: Token ids.
        attention_mask: True at real tokens.
        starts: Column of the first token of each completion.
    """

    input_ids: Int[Tensor, "sequences tokens"]
    attention_mask: Bool[Tensor, "sequences tokens"]
    starts: Int[Tensor, " sequences"]

    @property
    def live(self) -> Bool[Tensor, "sequences tokens"]:
        """True at real tokens."""
        return self.attention_mask


class PackedSequences(NamedTuple):
    """Several texts, prompt and completion, in a sequence; what they begin with in common stands there once.

    A sequence is a prefix tree of its texts, laid flat depth first: the tokens that go on from a token, in whatever
    text, stand in one run behind it. A token sees those in whose run it stands. The last token of a completion is
    predicted and predicts nothing, so it is not there.

    Attributes:
        input_ids: Token ids.
        position_ids: Place of each token in its own text.
        run_ends: Column at which the run of each token ends; 0 at padding.
        predictors: Place, in the flattened sequences, of the token whose state predicts each scored token.
        targets: The scored tokens, completions and end tokens.
        places: Where each scored token belongs in the flattened anchors × candidates × positions.
    """

    input_ids: Int[Tensor, "sequences tokens"]
    position_ids: Int[Tensor, "sequences tokens"]
    run_ends: Int[Tensor, "sequences tokens"]
    predictors: Int[Tensor, " scored"]
    targets: Int[Tensor, " scored"]
    places: Int[Tensor, " scored"]

    @property
    def live(self) -> Bool[Tensor, "sequences tokens"]:
        """True at real tokens."""
        return self.run_ends > 0


class PreferenceBatch(NamedTuple):
    """Candidates of some anchors, laid out for one forward pass.

    Attributes:
        rows: The anchors.
        sequences: Their tokens, in one layout or another.
        candidate_mask: True where the anchor has that candidate.
        completion_lengths: Scored tokens of each candidate, end token included; 0 where it is absent.
        num_chosen: How many leading candidates are chosen.
    """

    rows: list[TokenizedRow]
    sequences: PaddedSequences | RightPaddedSequences | PackedSequences
    candidate_mask: Bool[Tensor, "anchors candidates"]
    completion_lengths: Int[Tensor, "anchors candidates"]
    num_chosen: Int[Tensor, " anchors"]

    @classmethod
    def of(
        cls, rows: Sequence[TokenizedRow], sequences: PaddedSequences | RightPaddedSequences | PackedSequences
    ) -> "PreferenceBatch":
        """Say of rows that are laid out who is chosen and who is there."""
        completion_lengths = padded([[*map(len, row.completion_ids)] for row in rows], 0)
        num_chosen = torch.tensor([row.num_chosen for row in rows], dtype=torch.long)
        return cls(list(rows), sequences, completion_lengths > 0, completion_lengths, num_chosen)

    @property
    def row_ids(self) -> list[str]:
        """Content hash of each anchor's row."""
        return [row.id for row in self.rows]

    @property
    def chosen_mask(self) -> Bool[Tensor, "anchors candidates"]:
        """True where the anchor has that candidate and it is chosen."""
        return self.candidate_mask & ~self.rejected_mask

    @property
    def rejected_mask(self) -> Bool[Tensor, "anchors candidates"]:
        """True where the anchor has that candidate and it is rejected."""
        return _rejected(self.candidate_mask, self.num_chosen)

    def to(self, device: torch.device) -> "PreferenceBatch":
        """Move the tensors to a device."""
        sequences = type(self.sequences)(*(tensor.to(device) for tensor in self.sequences))
        return PreferenceBatch(self.rows, sequences, *(tensor.to(device) for tensor in self[2:]))


class CandidateScores(NamedTuple):
    """What a preference loss sees of some anchors; absent candidates may hold anything.

    Attributes:
        policy_logps: Log-probability of each completion under the policy, in nats, summed over its tokens.
        log_ratios: The same less that under the reference; NaN where the loss takes no reference.
        completion_lengths: Scored tokens of each candidate, end token included; 0 where it is absent.
        candidate_mask: True where the anchor has that candidate; live candidates come before absent ones.
        num_chosen: How many leading candidates are chosen, best first.
        center: Half the first chosen's log-ratio and half the mean of the rejected ones', mean over all anchors of the
            step, without gradient; NaN unless the loss depends on the other rows of its step.
    """

    policy_logps: Float[Tensor, "anchors candidates"]
    log_ratios: Float[Tensor, "anchors candidates"]
    completion_lengths: Int[Tensor, "anchors candidates"]
    candidate_mask: Bool[Tensor, "anchors candidates"]
    num_chosen: Int[Tensor, " anchors"]
    center: Float[Tensor, ""]

    @property
    def rejected_mask(self) -> Bool[Tensor, "anchors candidates"]:
        """True where the anchor has that candidate and it is rejected."""
        return _rejected(self.candidate_mask, self.num_chosen)

    def per_token(self, values: Float[Tensor, "anchors candidates"]) -> Float[Tensor, "anchors candidates"]:
        """Values that are sums over the tokens of each completion, as means."""
        return values / self.completion_lengths.clamp(min=1)


def _rejected(
    candidate_mask: Bool[Tensor, "anchors candidates"], num_chosen: Int[Tensor, " anchors"]
) -> Bool[Tensor, "anchors candidates"]:
    rank = torch.arange(candidate_mask.shape[1], device=candidate_mask.device)
    return candidate_mask & (rank >= num_chosen[:, None])


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
        micro_batches: What is forwarded at once, equally many on all processes; gradients add up over them.
        size: What the summed loss of all processes is divided by: anchors (or target tokens) of the whole step.
        weights: 1 for each micro-batch, or 0 for one that only keeps those of other processes company.
    """

    micro_batches: list[PreferenceBatch] | list[TextBatch]
    size: int
    weights: list[float]

    @property
    def is_shared(self) -> bool:
        """Whether other processes hold anchors of this step, too; all processes see it alike."""
        batches: Sequence[PreferenceBatch | TextBatch] = self.micro_batches
        counted = zip(batches, self.weights, strict=True)
        return 1 < self.size > sum(len(batch.row_ids) for batch, weight in counted if weight)


class Terms(NamedTuple):
    """What an objective returns for one micro-batch.

    Attributes:
        losses: One unreduced value for each anchor (or sequence); their sum over a step, divided by
            `StepBatch.size`, is what is minimised.
        metrics: Sums over anchors (or target tokens), detached, divided by `StepBatch.size` when logged.
    """

    losses: Tensor
    metrics: dict[str, Tensor]


class TokenStates(NamedTuple):
    """What a pooling sees of a batch of prompts; padding, on either side, may hold anything.

    Attributes:
        hidden: Hidden states of one layer.
        mask: True at real tokens.
        text_mask: True at tokens of the sentence itself; for a sentence without tokens, at all real tokens.
        attention: How much the last real token attends to each token at that layer, mean over heads; None unless the
            readout asks for it.
    """

    hidden: Float[Tensor, "sequences tokens hidden"]
    mask: Bool[Tensor, "sequences tokens"]
    text_mask: Bool[Tensor, "sequences tokens"]
    attention: Float[Tensor, "sequences tokens"] | None = None
