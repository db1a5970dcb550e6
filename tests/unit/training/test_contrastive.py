"""The contrastive objective: which sentences are compared, and exact gradients from pieces of a step."""

import math
from dataclasses import replace

import pytest
import torch

from sempa_lightning.data.negatives import Negatives
from sempa_lightning.errors import UserError
from sempa_lightning.losses.info_nce import InfoNce
from sempa_lightning.models.adapters import FullFineTuning
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


def test_by_a_plain_loop(policy, tiny_tokenizer, rows):
    """Every candidate of the step is a negative, but for copies of anchor and positive; its own count double."""
    (terms,) = Contrastive(LOSS, READOUT, negatives=True, kl_weight=0.0)(policy, NoReference(policy), step(rows))
    texts = [text for row in TEXTS for text in row]
    vectors = dict(zip(texts, Embedder(policy, tiny_tokenizer, READOUT).encode(texts), strict=True))
    for (anchor, positive, *own), loss in zip(TEXTS, terms.losses, strict=True):
        candidates = [text for row in TEXTS for text in row[1:]] + own  # which count twice
        candidates = [text for text in candidates if text not in (anchor, positive)]
        cosines = [torch.cosine_similarity(vectors[anchor], vectors[text], dim=0) for text in (positive, *candidates)]
        expected = -(torch.stack(cosines) / 0.2).log_softmax(0)[0]
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert terms.metrics["loss"].item() == pytest.approx(terms.losses.sum().item())


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
