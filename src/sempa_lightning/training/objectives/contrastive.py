"""Contrastive training of embeddings: PromptEOL-CSE, SimCSE, Roth et al."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sempa_lightning.check import check_choice, check_weight
from sempa_lightning.errors import UserError
from sempa_lightning.losses.info_nce import InfoNce
from sempa_lightning.models.layer_states import layer_index, run_layers
from sempa_lightning.models.readout import Readout, SentenceReadout
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.training.objectives.batches import preference_batches
from sempa_lightning.training.objectives.together import together
from sempa_lightning.types import PreferenceBatch, StepBatch, Terms, TokenStates, padded

_ANCHOR, _POSITIVE, _NEGATIVE = 0, 1, 2


class _Sentences(NamedTuple):
    """Sentences of some rows, row by row: the anchor, its positive, its negatives.

    Attributes:
        kinds: Anchor, positive or negative.
        names: Equal for equal sentences.
        vectors: Their embeddings.
    """

    kinds: Int[Tensor, " sentences"]
    names: Int[Tensor, " sentences"]
    vectors: Float[Tensor, "sentences hidden"]


class Contrastive:
    """InfoNCE between each anchor's embedding and those of its first chosen candidate and of all other candidates.

    The negatives of an anchor are the candidates of the whole step, on all processes, its own rejected ones among
    them. What says the same is left out: sentences that repeat the anchor or its positive, and positives of rows whose
    anchor is one of these two. Embeddings of the step are computed without gradients first, and each micro-batch then
    takes its part of the exact gradient against them, with the same dropout (as GradCache does, Gao et al. 2021):
    memory does not grow with the step, and neither the cut into micro-batches nor the number of processes changes the
    result, but for what dropout draws.

    Args:
        loss: Maps embeddings to losses.
        readout: How a sentence becomes a vector; `data.readout` must be the same.
        negatives: Whether the rejected candidates are negatives, beside the other anchors' positives.
        kl_weight: Weight of KL(policy ‖ reference) per token on the candidates as plain text (`unprompted_kl`), which
            holds the language model in place; at 0 it is neither computed nor logged.

    Raises:
        UserError: If the readout is not trainable: a mean of several, one that steers the model, or one that needs its
            attention; or if `negatives` or the weight is none.
    """

    uses_layout = False  # it embeds sentences, and scores no completion

    def __init__(self, loss: InfoNce, readout: SentenceReadout, negatives: bool, kl_weight: float) -> None:
        check_choice("objective.negatives", negatives)
        check_weight("objective.kl_weight", kl_weight)
        if not isinstance(readout, Readout) or readout.attention or readout.steering is not None:
            raise UserError("a contrastive objective trains a single plain readout: choose another, such as prompt_eol")
        self._loss = loss
        self._readout = readout
        self._negatives = negatives
        self._kl_weight = kl_weight

    def __call__(self, policy: nn.Module, reference: Reference, step: StepBatch) -> Iterator[Terms]:
        """Compare all sentences of the step; one loss for each anchor of each micro-batch.

        A row that is alone in its step and has no negative has a loss of 0.

        Raises:
            UserError: If the rows bring no sentences, or the model has no such layer as the readout names; in training,
                if a step has several anchors and no negative for any.
        """
        batches = preference_batches(self, step)
        seeds = torch.randint(2**62, (len(batches),)).tolist()
        twice = step.is_shared or len(batches) > 1
        frozen, place = self._frozen(policy, step, batches, seeds) if twice else (None, 0)
        return self._each(policy, reference, zip(batches, step.weights, seeds, strict=True), frozen, place)

    def _each(
        self,
        policy: nn.Module,
        reference: Reference,
        micro_batches: Iterable[tuple[PreferenceBatch, float, int]],
        frozen: _Sentences | None,
        place: int,
    ) -> Iterator[Terms]:
        for batch, weight, seed in micro_batches:
            live = self._embedded(policy, batch, seed)
            if weight or frozen is None:
                yield self._terms(policy, reference, batch, _around(frozen, place, live), place)
                place += len(live.names)
            else:  # kept for company: its sentences belong to no step
                more = _Sentences(*map(torch.cat, zip(frozen, live, strict=True)))
                yield self._terms(policy, reference, batch, more, len(frozen.names))

    def _terms(
        self, policy: nn.Module, reference: Reference, batch: PreferenceBatch, sentences: _Sentences, place: int
    ) -> Terms:
        anchors, candidates = sentences.kinds == _ANCHOR, sentences.kinds != _ANCHOR
        row = (anchors.cumsum(0) - 1)[candidates]
        is_negative = sentences.kinds[candidates] == _NEGATIVE
        positives = (~is_negative).nonzero().squeeze(-1)
        own_negatives = is_negative & (row == torch.arange(len(positives), device=row.device)[:, None])
        excluded = _saying_the_same(sentences.names[anchors], sentences.names[candidates], positives, row, is_negative)
        if torch.is_grad_enabled() and len(positives) > 1 and excluded.all():
            raise UserError(
                f"no anchor of a step has a negative (rows {', '.join(batch.row_ids)}): all its sentences repeat an"
                " anchor or its positive; set a larger data.batch_size or objective.negatives=true, or give other rows"
            )
        vectors = sentences.vectors
        all_losses = self._loss(vectors[anchors], vectors[candidates], positives, own_negatives, excluded)
        first = int(anchors[:place].sum())
        own = slice(first, first + len(batch.rows))
        # As negatives of others, these sentences move the others' losses, too: their gradient counts, not their value.
        elsewhere = all_losses.sum() - all_losses[own].sum()
        losses = all_losses[own] + (elsewhere - elsewhere.detach()) / len(batch.rows)
        metrics = {"loss": losses.detach(), "info_nce": losses.detach()}
        if self._kl_weight:
            kl = unprompted_kl(policy, reference, batch)
            losses = losses + self._kl_weight * kl
            metrics |= {"loss": losses.detach(), "kl": kl.detach()}
        return Terms(losses, {name: values.sum() for name, values in metrics.items()})

    @torch.no_grad()
    def _frozen(
        self, policy: nn.Module, step: StepBatch, batches: Sequence[PreferenceBatch], seeds: Sequence[int]
    ) -> tuple[_Sentences | None, int]:
        """Embeddings of all sentences of the step, and where those of this process begin."""

        def embedded() -> _Sentences | None:
            all_parts = [self._embedded(policy, batch, seed) for batch, seed in zip(batches, seeds, strict=True)]
            parts = [part for part, weight in zip(all_parts, step.weights, strict=True) if weight]
            return _Sentences(*map(torch.cat, zip(*parts, strict=True))) if parts else None

        if not step.is_shared:
            return embedded(), 0
        shares = _gathered(together(policy, embedded), batches[0].candidate_mask.device)
        before = shares[: torch.distributed.get_rank()]
        whole = [share for share in shares if share is not None]
        return _Sentences(*map(torch.cat, zip(*whole, strict=True))), sum(len(share.names) for share in before if share)

    def _embedded(self, policy: nn.Module, batch: PreferenceBatch, seed: int) -> _Sentences:
        """Embed the sentences of some rows; dropout draws from the seed."""
        ids, masks, kinds = [], [], []
        for row in batch.rows:
            if not row.sentence_ids:
                raise UserError("a contrastive objective embeds sentences: set data.readout=${readout}")
            negatives = range(1 + row.num_chosen, len(row.sentence_ids)) if self._negatives else ()
            for place, kind in ((0, _ANCHOR), (1, _POSITIVE), *((place, _NEGATIVE) for place in negatives)):
                ids.append(row.sentence_ids[place])
                masks.append(row.text_masks[place])
                kinds.append(kind)
        device = batch.candidate_mask.device
        names = torch.tensor([hash(tuple(sentence)) for sentence in ids], device=device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            vectors = self._vectors(policy, ids, masks, device)
        return _Sentences(torch.tensor(kinds, device=device), names, vectors)

    def _vectors(
        self, policy: nn.Module, ids: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]], device: torch.device
    ) -> Tensor:
        input_ids, text_mask = padded(ids, 0).to(device), padded(masks, 0).to(device).bool()
        lengths = torch.tensor([*map(len, ids)], device=device)
        mask = torch.arange(input_ids.shape[1], device=device) < lengths[:, None]
        layers = [layer_index(policy, layer) for layer in self._readout.layers]
        # Padding stands on the right, where causal attention does not look.
        _, states = run_layers(policy, layers, input_ids=input_ids, use_cache=False)
        pooled = [self._readout.pooling(TokenStates(states[layer], mask, text_mask)) for layer in layers]
        return torch.stack(pooled).mean(0)


def _saying_the_same(
    anchors: Int[Tensor, " anchors"],
    candidates: Int[Tensor, " sentences"],
    positives: Int[Tensor, " anchors"],
    row: Int[Tensor, " sentences"],
    is_negative: Bool[Tensor, " sentences"],
) -> Bool[Tensor, "anchors sentences"]:
    """Candidates that are no negatives of an anchor, by the names of sentences: its own positive is one of them."""
    # A positive says what the anchor of its row says.
    sources = torch.where(is_negative, candidates, anchors[row])
    pairs = [(said, own) for said in (candidates, sources) for own in (anchors, candidates[positives])]
    return torch.stack([said == own[:, None] for said, own in pairs]).any(0)


def _around(frozen: _Sentences | None, place: int, live: _Sentences) -> _Sentences:
    """All sentences of the step, those of one micro-batch live."""
    if frozen is None:
        return live
    end = place + len(live.names)
    return frozen._replace(vectors=torch.cat([frozen.vectors[:place], live.vectors, frozen.vectors[end:]]))


def _gathered(own: _Sentences | None, device: torch.device) -> list[_Sentences | None]:
    """The sentences of all processes, by rank."""
    shares: list[_Sentences | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, own and _Sentences(*(tensor.cpu() for tensor in own)))
    return [share and _Sentences(*(tensor.to(device) for tensor in share)) for share in shares]
