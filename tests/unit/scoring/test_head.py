"""Log-probabilities and divergences of tokens against a softmax over everything, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from sempa_lightning.models.adapters import Lora
from sempa_lightning.scoring import head as head_module
from sempa_lightning.scoring.head import LmHead, divergences, lm_head, target_logps

VOCAB, HIDDEN, TOKENS = 37, 16, 23
CHUNKED = pytest.mark.usefixtures("chunk")
KINDS = {
    "plain": {},
    "bias": {"bias": True},
    "scaled": {"scale": 0.25},
    "soft-capped": {"softcap": 2.0},
    "all of it": {"bias": True, "scale": 1.5, "softcap": 1.5},
}


@pytest.fixture(params=[1, 4, 22, 1000], ids="{} tokens a chunk".format)
def chunk(request, monkeypatch):
    """Ragged chunks, one for each token, and one for all."""
    monkeypatch.setattr(head_module, "_MAX_LOGITS", request.param * VOCAB + VOCAB // 2)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(params=[True, False], ids=["frozen", "trainable"])
def frozen(request):
    return request.param


def make_head(seed=0, *, frozen=True, bias=False, scale=1.0, softcap=None):
    layer = nn.Linear(HIDDEN, VOCAB, bias=bias)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data = 0.7 * torch.randn(parameter.shape, generator=generator)
        parameter.requires_grad_(not frozen)
    return LmHead(layer, VOCAB, scale, softcap)


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def targets():
    return torch.randint(VOCAB, (TOKENS,), generator=torch.Generator().manual_seed(2))


def predictors():
    """Of each target, in no order; some states predict several targets, others none."""
    return torch.randint(TOKENS, (TOKENS,), generator=torch.Generator().manual_seed(6))


def full_log_softmax(states, head):
    """By definition, with the head's own weights as leaves, in float64."""
    bias = 0 if head.layer.bias is None else head.layer.bias.double()
    logits = (states.double() @ head.layer.weight.double().T + bias) * head.scale
    if head.softcap is not None:
        logits = head.softcap * (logits / head.softcap).tanh()
    exponentials = logits.exp()
    return (exponentials / exponentials.sum(-1, keepdim=True)).log()


def full_target_logps(states, head):
    return full_log_softmax(states, head)[predictors(), targets()]


def full_divergences(states, head, reference_states, reference_head):
    """Plain autograd of F.kl_div, whose arguments are the other way round."""
    with torch.no_grad():
        reference = full_log_softmax(reference_states, reference_head)
    policy = full_log_softmax(states, head)
    return F.kl_div(reference, policy, log_target=True, reduction="none").sum(-1)


def gradients(values, states, head):
    """Of a weighted sum, with respect to the states and to the head's weights where they are trained."""
    weights = random(TOKENS, seed=3).to(values.dtype)
    leaves = [states, *(parameter for parameter in head.layer.parameters() if parameter.requires_grad)]
    return torch.autograd.grad((values * weights).sum(), leaves)


def assert_close(found, expected):
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-5)


@CHUNKED
def test_target_logps_equal_a_softmax_over_all(kind, frozen):
    states, head = random(TOKENS, HIDDEN).requires_grad_(), make_head(frozen=frozen, **kind)
    found, expected = target_logps(states, head, predictors(), targets()), full_target_logps(states, head)
    assert found.dtype == torch.float32
    assert_close(found, expected)
    for gradient, right in zip(gradients(found, states, head), gradients(expected, states, head), strict=True):
        assert right.abs().max() > 0.1
        assert_close(gradient, right)


@CHUNKED
def test_divergences_equal_a_softmax_over_all(kind, frozen):
    states, head = random(TOKENS, HIDDEN).requires_grad_(), make_head(frozen=frozen, **kind)
    reference_states, reference_head = random(TOKENS, HIDDEN, seed=4), make_head(5, **kind)
    found = divergences(states, head, reference_states, reference_head)
    expected = full_divergences(states, head, reference_states, reference_head)
    assert found.dtype == torch.float32
    assert_close(found, expected)
    for gradient, right in zip(gradients(found, states, head), gradients(expected, states, head), strict=True):
        assert right.abs().max() > 0.1
        assert_close(gradient, right)


def test_backward_fills_what_is_trained_and_nothing_else(frozen):
    states, head = random(TOKENS, HIDDEN).requires_grad_(), make_head(frozen=frozen, bias=True)
    target_logps(states, head, predictors(), targets()).sum().backward()
    divergences(states, head, random(TOKENS, HIDDEN, seed=4), make_head(5)).sum().backward()
    assert states.grad is not None
    assert all((parameter.grad is None) is frozen for parameter in head.layer.parameters())


def test_divergences_are_zero_between_equals(kind, frozen):
    states, head = random(TOKENS, HIDDEN).requires_grad_(), make_head(frozen=frozen, **kind)
    same = divergences(states, head, states.detach().clone(), head)
    assert same.abs().max() < 1e-6
    assert max(gradient.abs().max() for gradient in gradients(same, states, head)) < 1e-5


def test_divergences_are_positive_between_others(kind, frozen):
    states, head = random(TOKENS, HIDDEN), make_head(frozen=frozen, **kind)
    near = states + 1e-3 * random(TOKENS, HIDDEN, seed=6)
    assert divergences(states, head, near, head).min() > -1e-6
    assert divergences(states, head, random(TOKENS, HIDDEN, seed=4), head).min() > 1e-3


def test_divergences_of_one_head_from_another(frozen):
    states, head = random(TOKENS, HIDDEN), make_head(frozen=frozen)
    assert divergences(states, head, states, make_head(5)).min() > 0.1


def test_the_reference_is_sent_no_gradient(frozen):
    states, reference_states = (random(TOKENS, HIDDEN, seed=seed).requires_grad_() for seed in (1, 4))
    reference_head = make_head(5, frozen=False)
    divergences(states, make_head(frozen=frozen), reference_states, reference_head).sum().backward()
    assert states.grad.any()
    assert reference_states.grad is None
    assert reference_head.layer.weight.grad is None


@CHUNKED
def test_without_gradient(kind, frozen):
    states, head = random(TOKENS, HIDDEN).requires_grad_(), make_head(frozen=frozen, **kind)
    reference = random(TOKENS, HIDDEN, seed=4), make_head(5, **kind)
    with torch.no_grad():
        logps, kl = target_logps(states, head, predictors(), targets()), divergences(states, head, *reference)
    assert not logps.requires_grad
    assert not kl.requires_grad
    assert_close(logps, full_target_logps(states, head).detach())
    assert_close(kl, full_divergences(states, head, *reference).detach())


def test_frozen_states_need_no_gradient():
    logps = target_logps(random(TOKENS, HIDDEN), make_head(), predictors(), targets())
    assert not logps.requires_grad


def test_nothing_that_is_given_is_changed(kind, frozen):
    states, head = random(TOKENS, HIDDEN).requires_grad_(), make_head(frozen=frozen, **kind)
    reference_states, reference_head = random(TOKENS, HIDDEN, seed=4), make_head(5, **kind)
    given = [states, reference_states, head.layer.weight, reference_head.layer.weight]
    copies = [tensor.detach().clone() for tensor in given]
    target_logps(states, head, predictors(), targets()).sum().backward()
    divergences(states, head, reference_states, reference_head).sum().backward()
    assert all(torch.equal(*pair) for pair in zip(given, copies, strict=True))


@pytest.mark.parametrize("half", ["autocast", "weights"])
def test_bfloat16_is_near(kind, frozen, half):
    """Matrix products in bfloat16, the softmax in float32."""
    weight_dtype = torch.bfloat16 if half == "weights" else torch.float32
    states, head = random(TOKENS, HIDDEN).bfloat16().requires_grad_(), make_head(frozen=frozen, **kind)
    reference_states, reference_head = random(TOKENS, HIDDEN, seed=4).bfloat16(), make_head(5, **kind)
    for layer in (head.layer, reference_head.layer):
        layer.to(weight_dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast"):
        logps = target_logps(states, head, predictors(), targets())
        kl = divergences(states, head, reference_states, reference_head)
    expected = (
        (logps, full_target_logps(states, head)),
        (kl, full_divergences(states, head, reference_states, reference_head)),
    )
    for found, right in expected:
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), right, rtol=0.03, atol=0.1)
        for gradient, exact in zip(gradients(found, states, head), gradients(right, states, head), strict=True):
            assert (gradient - exact).norm() < 0.03 * exact.norm()


def test_autocast_is_used(frozen):
    """Else a large head would be multiplied in float32."""
    states, head = random(TOKENS, HIDDEN), make_head(frozen=frozen)
    exact = target_logps(states, head, predictors(), targets())
    with torch.autocast("cpu", torch.bfloat16):
        assert 1e-4 < (target_logps(states, head, predictors(), targets()) - exact).abs().max() < 0.1


def test_no_more_logits_at_once_than_allowed(kind, frozen, monkeypatch):
    """The largest tensor that forward and backward make, whatever it is for."""
    monkeypatch.setattr(head_module, "_MAX_LOGITS", 4 * VOCAB)
    rows = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dim() == 2 and out.shape[-1] == VOCAB:
                rows.append(len(out))
            return out

    states, head = random(TOKENS, HIDDEN).requires_grad_(), make_head(frozen=frozen, **kind)
    with Watch():
        target_logps(states, head, predictors(), targets()).sum().backward()
        divergences(states, head, random(TOKENS, HIDDEN, seed=4), make_head(5)).sum().backward()
    weight_transposed = HIDDEN
    assert max(size for size in rows if size != weight_transposed) == 4


SIZE = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.mark.parametrize(
    ("model_class", "config", "scale", "softcap"),
    [
        (PhiForCausalLM, PhiConfig(**SIZE), 1, None),
        (CohereForCausalLM, CohereConfig(**SIZE, logit_scale=0.25), 0.25, None),
        (GraniteForCausalLM, GraniteConfig(**SIZE, logits_scaling=8.0), 0.125, None),
        (Gemma2ForCausalLM, Gemma2Config(**SIZE, head_dim=8, final_logit_softcapping=3.0), 1, 3.0),
    ],
    ids=["phi", "cohere", "granite", "gemma2"],
)
def test_head_of_a_model(model_class, config, scale, softcap):
    model = model_class(config)
    assert lm_head(model) == LmHead(model.lm_head, VOCAB, scale, softcap)
    policy = Lora(2, 4, 0.0, "all-linear").attach(model)
    assert lm_head(policy) == LmHead(model.lm_head, VOCAB, scale, softcap)
    assert lm_head(policy).frozen_linear
