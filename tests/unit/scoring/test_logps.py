"""The check that stands before training: a model that a layout does not fit is refused."""

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaModel

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import Lora
from sempa_lightning.scoring.logps import check_layout, completion_logps
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.types import TokenizedRow

ROWS = [
    TokenizedRow("a", [0, 5, 6, 7], [[8, 9, 0], [10, 0]], 1),
    TokenizedRow("b", [0, 5, 11], [[12, 0], [13, 14, 15, 0], [16, 0]], 1),
]
LAYOUTS = {"padded": Padded(), "packed": Packed(1000)}
CONFIG = LlamaConfig(
    vocab_size=32,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=64,
    initializer_range=0.3,
)


class LouderHead(LlamaForCausalLM):
    """Does something to its logits that no config tells of."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        return type(output)({**output, "logits": 2 * output.logits})


class FlatMaskDecoder(LlamaModel):
    """Takes no mask but that of padding."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        if attention_mask is not None:
            batch, tokens = attention_mask.shape
            assert (batch, tokens) == input_ids.shape
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)


class PositionsByColumn(LlamaModel):
    """Counts positions itself, whatever it is told."""

    def forward(self, input_ids=None, **kwargs):
        columns = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        return super().forward(input_ids=input_ids, **{**kwargs, "position_ids": columns})


def build(model_class=LlamaForCausalLM, decoder_class=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(copy.deepcopy(CONFIG)).eval()
        if decoder_class is not None:
            model.model = decoder_class(model.config).eval()
        return model


@pytest.fixture(params=LAYOUTS)
def batch(request):
    return LAYOUTS[request.param](ROWS, 0)


@pytest.fixture
def packed():
    return LAYOUTS["packed"](ROWS, 0)


def test_a_model_that_fits(batch):
    check_layout(build(), batch)
    check_layout(Lora(2, 4, 0.0, "all-linear").attach(build()), batch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_that_fits(batch, dtype):
    check_layout(build().to(dtype), batch)


def test_scoring_leaves_no_trace(packed):
    policy = Lora(2, 4, 0.0, "all-linear").attach(build()).train()
    modes = [module.training for module in policy.modules()]
    state = torch.random.get_rng_state()
    check_layout(policy, packed)
    assert [module.training for module in policy.modules()] == modes
    assert torch.random.get_rng_state().equal(state)
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_dropout_is_no_reason_to_refuse(packed):
    """A resumed run, or one that goes on from an adapter, has dropout on weights that matter."""
    torch.manual_seed(0)
    policy = Lora(4, 8, 0.5, "all-linear").attach(build())
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    policy.train()
    assert not torch.allclose(completion_logps(policy, packed), completion_logps(policy, packed))
    check_layout(policy, packed)


def test_autocast_is_no_reason_to_refuse(packed):
    """The check is about masks and positions, at a tolerance that half precision would not keep."""
    model = build()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rounded = completion_logps(model, packed)
        check_layout(model, packed)
    assert (rounded - completion_logps(model, packed)).abs().max() > 1e-3


def test_a_head_that_the_config_does_not_tell_of(packed):
    with pytest.raises(UserError, match=r"log-probabilities are off by up to [\d.e+]+ nats: set scoring=padded"):
        check_layout(build(LouderHead), packed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_head_that_the_config_does_not_tell_of_in_half_precision(packed, dtype):
    with pytest.raises(UserError, match="set scoring=padded"):
        check_layout(build(LouderHead).to(dtype), packed)


def test_a_decoder_that_counts_positions_itself(packed):
    with pytest.raises(UserError, match="set scoring=padded"):
        check_layout(build(decoder_class=PositionsByColumn), packed)


def test_a_decoder_that_refuses_the_mask(packed):
    with pytest.raises(UserError, match=r"cannot score .*too many values to unpack.*: set scoring=padded"):
        check_layout(build(decoder_class=FlatMaskDecoder), packed)


@pytest.mark.parametrize("model", [build(LouderHead), build(decoder_class=FlatMaskDecoder)], ids=["head", "mask"])
def test_what_is_refused_can_be_scored_padded(model):
    check_layout(model, Padded()(ROWS, 0))


@torch.no_grad()
def test_absent_candidates_are_zero(batch):
    logps = completion_logps(build(), batch)
    assert logps.shape == (2, 3)
    assert logps[0, 2] == 0
    assert (logps < 0).int().tolist() == [[1, 1, 0], [1, 1, 1]]
