"""The contrastive objective: which sentences are compared, and exact gradients from pieces of a step."""

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from sempa_lightning.data.negatives import Negatives
from sempa_lightning.errors import UserError
from sempa_lightning.losses.info_nce import InfoNce
from sempa_lightning.models.adapters import FullFineTuning, Lora
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.prompt_tokens import PromptTokenizer
from sempa_lightning.models.readout import MeanOf, Readout
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import Frozen, NoReference
from sempa_lightning.scoring.unprompted_kl import unprompted_kl
from sempa_lightning.training.objectives.contrastive import Contrastive
from sempa_lightning.types import StepBatch, TokenizedRow

LOSS = InfoNce(temperature=0.2, hard_negative_weight=math.log(2))
READOUT = Readout(PromptTemplate('This sentence : "{sentence}" means in one word:"'), str, -1, last_token)
TEXTS = [
    ["A dog runs.", "A dog is running.", "A cat sleeps.", "Nobody runs."],
    ["It rains.", "Rain is falling.", "The sun shines."],
    ["She sings.", "A woman sings.", "She is silent.", "A dog runs."],
    ["A dog runs.", "The dog ran.", "It rains."],
]


@pytest.fixture
def policy(tiny_llama):
    return FullFineTuning().attach(tiny_llama.double())


@pytest.fixture
def rows(tiny_tokenizer):
    """Four rows; the first and the last have the same anchor, which is also a rejected candidate of the third."""

    tokenize = PromptTokenizer(tiny_tokenizer, READOUT.template, READOUT.preprocess, 256)
    completions = [[[*tiny_tokenizer.encode(text), tiny_tokenizer.eos_token_id] for text in row[1:]] for row in TEXTS]
    prompts = [tokenize(row) for row in TEXTS]
    return [
        TokenizedRow(str(place), row[0].ids, completion, 1, [text.ids for text in row], [text.text for text in row])
        for place, (row, completion) in enumerate(zip(prompts, completions, strict=True))
    ]


def step(*batches):
    return StepBatch([pad(batch, pad_token_id=0) for batch in batches], sum(map(len, batches)), [1.0] * len(batches))


def gradient(policy, objective, step):
    policy.zero_grad()
    losses = []
    for terms in objective(policy, NoReference(policy), step):
        terms.losses.sum().backward()
        losses += terms.losses.tolist()
    return losses, torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])  # not the head


def says_the_same(anchor, positive):
    """Sentences that are no negatives: the two, and what a row has as its positive for one of them."""
    return {anchor, positive, *(row[1] for row in TEXTS if row[0] in (anchor, positive))}


def test_by_a_plain_loop(policy, tiny_tokenizer, rows):
    """Every candidate of the step is a negative, but for those that say the same; its own count double."""
    (terms,) = Contrastive(LOSS, READOUT, negatives=True, kl_weight=0.0)(policy, NoReference(policy), step(rows))
    texts = [text for row in TEXTS for text in row]
    vectors = dict(zip(texts, Embedder(policy, tiny_tokenizer, READOUT).encode(texts), strict=True))
    for (anchor, positive, *own), loss in zip(TEXTS, terms.losses, strict=True):
        candidates = [text for row in TEXTS for text in row[1:]] + own  # which count twice
        candidates = [text for text in candidates if text not in says_the_same(anchor, positive)]
        cosines = [torch.cosine_similarity(vectors[anchor], vectors[text], dim=0) for text in (positive, *candidates)]
        expected = -(torch.stack(cosines) / 0.2).log_softmax(0)[0]
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert terms.metrics["loss"].item() == pytest.approx(terms.losses.sum().item())


def test_both_directions_by_a_plain_loop(policy, tiny_tokenizer, rows):
    """Each anchor is also drawn among the anchors, but for those that say the same: the first and the last are one."""
    forward, both = (
        next(Contrastive(loss, READOUT, negatives=False, kl_weight=0.0)(policy, NoReference(policy), step(rows))).losses
        for loss in (InfoNce(0.2), InfoNce(0.2, symmetric=True))
    )
    encode = Embedder(policy, tiny_tokenizer, READOUT).encode
    for (anchor, positive, *_), one_way, loss in zip(TEXTS, forward, both, strict=True):
        others = [other[0] for other in TEXTS if other[0] != anchor]
        vectors = encode([positive, anchor, *others])
        back = -(torch.cosine_similarity(vectors[:1], vectors[1:]) / 0.2).log_softmax(0)[0]
        assert loss.item() == pytest.approx((one_way + back).item() / 2, abs=1e-5)


def test_a_step_in_which_nothing_is_a_negative(policy, rows):
    """Rows of one anchor: there is nothing to learn from them. A row that is left over at the end of an epoch is 0."""
    objective = Contrastive(LOSS, READOUT, negatives=False, kl_weight=0.0)
    with pytest.raises(UserError, match=r"^no anchor of a step has a negative \(rows 0, 3\): .* data\.batch_size"):
        next(objective(policy, NoReference(policy), step([rows[0], rows[3]])))
    with torch.no_grad():  # of the dev rows, some are compared
        assert next(objective(policy, NoReference(policy), step([rows[0], rows[3]]))).losses.tolist() == [0, 0]
    assert next(objective(policy, NoReference(policy), step(rows[:1]))).losses.tolist() == [0]


class Watched(InfoNce):
    """Keeps the embeddings that it has seen."""

    seen: ClassVar[list[torch.Tensor]] = []

    def __call__(self, anchors, candidates, *masks):
        self.seen.append(candidates.detach())
        return super().__call__(anchors, candidates, *masks)


def test_both_passes_drop_the_same(tiny_llama, rows):
    """Else a piece would be compared with embeddings of which its own are no part."""
    policy = Lora(r=4, alpha=8, dropout=0.5, target_modules="all-linear").attach(tiny_llama.double()).train()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            parameter.add_(1.0 if "lora_B" in name else 0.0)
    objective = Contrastive(Watched(0.2), READOUT, negatives=True, kl_weight=0.0)
    for _ in range(2):
        list(objective(policy, NoReference(policy), step(rows[:1], rows[1:])))
    one, same, another, same_again = Watched.seen
    torch.testing.assert_close(one, same)
    torch.testing.assert_close(another, same_again)
    assert not torch.allclose(one, another)


@pytest.mark.parametrize("negatives", [True, False])
def test_pieces_of_a_step_add_up(policy, rows, negatives):
    objective = Contrastive(LOSS, READOUT, negatives=negatives, kl_weight=0.0)
    losses, whole = gradient(policy, objective, step(rows))
    for pieces in ([rows[:1], rows[1:]], [rows[:3], rows[3:]], [[row] for row in rows]):
        found, parts = gradient(policy, objective, step(*pieces))
        assert found == pytest.approx(losses, abs=1e-9)
        assert (parts - whole).norm() < 1e-9 * whole.norm()


def test_rejected_candidates_are_left_out_on_demand(policy, rows):
    objective = Contrastive(LOSS, READOUT, negatives=False, kl_weight=0.0)
    without = [row._replace(sentence_ids=row.sentence_ids[:2]) for row in rows]
    (with_them,), (alone,) = (list(objective(policy, NoReference(policy), step(some))) for some in (rows, without))
    torch.testing.assert_close(with_them.losses, alone.losses)


def test_candidates_of_others_are_no_hard_negatives(policy, rows):
    """Preferences get them; an anchor's own negatives stay those that its row has."""
    objective = Contrastive(LOSS, READOUT, negatives=True, kl_weight=0.0)
    for negatives in (Negatives(given=True, in_batch=2), Negatives(given=False, in_batch=1)):
        mixed = negatives(rows, 10**6)
        assert mixed[0].completion_ids != rows[0].completion_ids
        (alone,), (found,) = (list(objective(policy, NoReference(policy), step(some))) for some in (rows, mixed))
        assert torch.equal(found.losses, alone.losses)


def test_the_divergence_is_added(policy, rows):
    reference = Frozen(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    (plain,) = Contrastive(LOSS, READOUT, negatives=True, kl_weight=0.0)(policy, reference, step(rows))
    (held,) = Contrastive(LOSS, READOUT, negatives=True, kl_weight=3.0)(policy, reference, step(rows))
    kl = unprompted_kl(policy, reference, step(rows).micro_batches[0])
    assert kl.min() > 0.001
    torch.testing.assert_close(held.losses, plain.losses + 3.0 * kl)


def test_rows_without_sentences(policy, rows):
    bare = [row._replace(sentence_ids=[]) for row in rows]
    with pytest.raises(UserError, match=r"data\.readout"):
        next(Contrastive(LOSS, READOUT, negatives=True, kl_weight=0.0)(policy, NoReference(policy), step(bare)))


def test_a_readout_that_cannot_be_trained():
    with pytest.raises(UserError, match="a single plain readout"):
        Contrastive(LOSS, MeanOf([READOUT, READOUT]), negatives=True, kl_weight=0.0)


@pytest.mark.parametrize("layer", [1, 2, [1, 2], [-1, -2]])
def test_any_layer_is_read_as_the_embedder_reads_it(policy, tiny_tokenizer, rows, layer):
    """With one row, the loss is that of its positive against its own negatives; tiny_llama has two layers."""
    readout = replace(READOUT, layer=layer)
    objective = Contrastive(InfoNce(temperature=1.0, hard_negative_weight=0.0), readout, negatives=True, kl_weight=0.0)
    (terms,) = objective(policy, NoReference(policy), step(rows[:1]))
    vectors = Embedder(policy, tiny_tokenizer, readout).encode(TEXTS[0]).double()
    cosines = torch.cosine_similarity(vectors[:1], vectors[1:])
    assert terms.losses.item() == pytest.approx(-cosines.log_softmax(0)[0].item(), abs=1e-5)


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_the_model_lacks(policy, rows, layer):
    objective = Contrastive(LOSS, replace(READOUT, layer=layer), negatives=True, kl_weight=0.0)
    with pytest.raises(UserError, match=rf"readout\.layer={layer}: the model's layers are 0 to 2, or -3 to -1"):
        next(objective(policy, NoReference(policy), step(rows)))


@pytest.mark.parametrize("objective", ["contrastive", "joint"])
def test_an_anchor_is_not_contrasted_with_nothing(objective):
    from hydra import compose, initialize_config_dir

    from sempa_lightning.entry import conf_dir
    from sempa_lightning.train import _refuse_alone

    words = [f"objective={objective}", "data.negatives.given=false", "data.negatives.in_batch=1"]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", words)
    _refuse_alone(cfg.objective, 2)
    with pytest.raises(UserError, match=r"^data\.batch_size=1: .*loss of 0\. Set data\.batch_size=2"):
        _refuse_alone(cfg.objective, 1)
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        _refuse_alone(compose("train", [f"objective={objective}"]).objective, 1)
