"""The padded layout against one sequence at a time, without padding, on several architectures."""

import copy

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sempa_lightning.scoring.padded import completion_lengths, completion_logps, pad
from sempa_lightning.types import TokenizedRow

VOCAB, PAD = 61, 0
SIZE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZE, "num_key_value_heads": 2, "intermediate_size": 48}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**GROUPED)),
    # Absolute positions: wrong position ids would show.
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    "opt": (OPTForCausalLM, OPTConfig(**SIZE, ffn_dim=48, word_embed_proj_dim=32)),
    "mistral": (MistralForCausalLM, MistralConfig(**GROUPED, sliding_window=48)),
    "mistral, window shorter than a sequence": (
        MistralForCausalLM,
        MistralConfig(**GROUPED, sliding_window=4),
    ),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**GROUPED, head_dim=8)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**GROUPED, **SLIDING, sliding_window=4)),
    "phi": (PhiForCausalLM, PhiConfig(**SIZE, intermediate_size=48)),
}
# Prompt length, completion lengths and chosen of each anchor: no two alike.
SHAPES = ((7, (3, 1, 6), 1), (2, (4, 2), 1), (11, (1, 5, 2, 8), 2), (1, (2, 2, 9), 1))


def random_rows(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def ids(length):
        return torch.randint(1, VOCAB, (length,), generator=generator).tolist()

    return [
        TokenizedRow(f"row {index}", ids(prompt), [ids(length) for length in lengths], num_chosen)
        for index, (prompt, lengths, num_chosen) in enumerate(SHAPES)
    ]


def build(name):
    model_class, config = ARCHITECTURES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(copy.deepcopy(config)).eval()
        for parameter in model.parameters():
            # Freshly initialised models predict almost uniformly: spread them, so that a wrong column shows.
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def one_at_a_time(model, prompt, completion):
    """Sum of log-probabilities of the completion: token by token, no padding, no mask, softmax in float64."""
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].double()
    total = torch.zeros((), dtype=torch.float64)
    for place, token in enumerate(completion, start=len(prompt)):
        total = total + logits[place - 1, token] - logits[place - 1].exp().sum().log()
    return total


def expected_logps(model, rows):
    width = max(len(row.completion_ids) for row in rows)
    return torch.stack(
        [
            torch.stack(
                [one_at_a_time(model, row.prompt_ids, completion) for completion in row.completion_ids]
                + [torch.zeros((), dtype=torch.float64)] * (width - len(row.completion_ids))
            )
            for row in rows
        ]
    )


def test_pad_by_hand():
    rows = [TokenizedRow("a", [1, 2], [[3], [4, 5]], 1), TokenizedRow("b", [6], [[7, 8, 9]], 1)]
    batch = pad(rows, PAD)
    assert batch.row_ids == ["a", "b"]
    assert batch.input_ids.tolist() == [[1, 2, 3, 0, 0], [1, 2, 4, 5, 0], [0, 6, 7, 8, 9]]
    assert batch.attention_mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]
    assert batch.completion_mask.int().tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.candidate_mask.tolist() == [[True, True], [True, False]]
    assert batch.num_chosen.tolist() == [1, 1]
    assert completion_lengths(batch).tolist() == [[1, 2], [3, 0]]


def test_pad_does_not_take_a_pad_token_in_the_text_for_padding():
    batch = pad([TokenizedRow("a", [PAD, 2], [[3, PAD]], 1), TokenizedRow("b", [4], [[PAD]], 1)], PAD)
    assert batch.attention_mask.int().tolist() == [[1, 1, 1, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_one_sequence_at_a_time(name):
    model, rows = build(name), random_rows()
    with torch.no_grad():
        logps = completion_logps(model, pad(rows, PAD))
        expected = expected_logps(model, rows)
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps.double(), expected, rtol=1e-6, atol=1e-5)
    live = expected != 0
    assert live.sum() == sum(len(row.completion_ids) for row in rows)
    assert torch.equal(logps[~live], torch.zeros(int((~live).sum())))
    uniform = -torch.log(torch.tensor(VOCAB)) * completion_lengths(pad(rows, PAD))
    assert (logps - uniform).abs()[live].max() > 0.5, "the model predicts almost uniformly: the test sees nothing"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_row_does_not_depend_on_its_batch(name):
    model, rows = build(name), random_rows()
    with torch.no_grad():
        together = completion_logps(model, pad(rows, PAD))
        for index, row in enumerate(rows):
            alone = completion_logps(model, pad([row], PAD))[0]
            torch.testing.assert_close(together[index, : len(alone)], alone, rtol=1e-6, atol=1e-5)
        backwards = completion_logps(model, pad(rows[::-1], PAD))
    torch.testing.assert_close(backwards.flip(0), together, rtol=1e-6, atol=1e-5)


def test_the_pad_token_does_not_matter():
    model, rows = build("llama"), random_rows()
    with torch.no_grad():
        torch.testing.assert_close(
            completion_logps(model, pad(rows, 0)), completion_logps(model, pad(rows, 17)), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_gradients_equal_those_of_one_sequence_at_a_time(name):
    """Of a weighted sum, so that no two candidates can stand in for each other."""
    model, rows = build(name), random_rows()
    weights = torch.randn(len(rows), 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradients(logps):
        model.zero_grad()
        (logps * weights).sum().backward()
        return {key: value.grad.clone() for key, value in model.named_parameters()}

    padded = gradients(completion_logps(model, pad(rows, PAD)))
    expected = gradients(expected_logps(model, rows))
    assert max(gradient.abs().max() for gradient in expected.values()) > 0.1
    for key, gradient in expected.items():
        torch.testing.assert_close(padded[key], gradient, rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


def test_half_precision_logits_are_summed_in_float32():
    """In bfloat16 a sum of about -30 would be rounded to multiples of 1/8."""
    model, rows = build("llama").bfloat16(), random_rows()
    with torch.no_grad():
        logps = completion_logps(model, pad(rows, PAD))
        # Row by row, bfloat16 matrix products differ: compare with the same logits, summed in float64.
        batch = pad(rows, PAD)
        positions = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), position_ids=positions
        ).logits.double()
    assert logps.dtype == torch.float32
    token_logps = logits[:, :-1].log_softmax(-1).gather(-1, batch.input_ids[:, 1:, None])[..., 0]
    expected = (token_logps * batch.completion_mask[:, 1:]).sum(-1)
    torch.testing.assert_close(logps[batch.candidate_mask].double(), expected, rtol=1e-6, atol=1e-5)
