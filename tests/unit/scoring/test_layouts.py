"""Every layout against one sequence at a time, without padding, on several architectures."""

import copy

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
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

from sempa_lightning.models.adapters import FullFineTuning, Lora
from sempa_lightning.scoring.layout import Layout
from sempa_lightning.scoring.logps import completion_logps, token_logps
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded, pad
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
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4, "head_dim": 8}
ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**GROUPED)),
    "llama, tied head": (LlamaForCausalLM, LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    # Absolute positions: wrong position ids would show.
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    "opt": (OPTForCausalLM, OPTConfig(**SIZE, ffn_dim=48, word_embed_proj_dim=32)),
    "gpt-neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**SIZE, intermediate_size=48)),
    "mistral": (MistralForCausalLM, MistralConfig(**GROUPED, sliding_window=48)),
    "mistral, window shorter than a sequence": (MistralForCausalLM, MistralConfig(**GROUPED, sliding_window=4)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**GROUPED, head_dim=8)),
    "qwen3, mixed windows": (Qwen3ForCausalLM, Qwen3Config(**GROUPED, **SLIDING, use_sliding_window=True)),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**GROUPED, **SLIDING, final_logit_softcapping=2.0)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**GROUPED, **SLIDING)),
    "cohere": (CohereForCausalLM, CohereConfig(**GROUPED, logit_scale=0.25)),
    "granite": (GraniteForCausalLM, GraniteConfig(**GROUPED, logits_scaling=4.0)),
    "phi, head with bias": (PhiForCausalLM, PhiConfig(**SIZE, intermediate_size=48)),
}
LAYOUTS = {
    "padded": Padded(),
    "one anchor a sequence": Packed(1),
    "two anchors a sequence": Packed(24),
    "one sequence": Packed(10_000),
}
# Prompt length, completion lengths and chosen of each anchor: no two alike, and a completion of one token.
SHAPES = ((7, (3, 1, 6), 1), (2, (4, 2), 1), (11, (1, 5, 2, 8), 2), (1, (2, 2, 9), 1))


def random_rows(start=(), seed=0):
    """Rows whose prompts begin alike, and are different from there on."""
    generator = torch.Generator().manual_seed(seed)

    def ids(length):
        return torch.randint(1, VOCAB, (length,), generator=generator).tolist()

    return [
        TokenizedRow(f"row {index}", [*start, *ids(prompt)], [ids(length) for length in lengths], num_chosen)
        for index, (prompt, lengths, num_chosen) in enumerate(SHAPES)
    ]


START = [11, 23, 5, 42, 8, 17, 33, 51, 29]
ROWS = {
    "nothing in common": random_rows(),
    "a long common start": random_rows(START),
    "one prompt begins another": [
        TokenizedRow("short", START, [[1, 2], [3]], 1),
        TokenizedRow("long", [*START, 7, 8], [[4, 5, 6], [9], [2, 1]], 1),
    ],
    "the same prompt": [row._replace(prompt_ids=START) for row in random_rows()],
    "one token is the prompt": [row._replace(prompt_ids=[3]) for row in random_rows()],
    "one anchor": random_rows(START)[2:3],
    "one candidate of one token": [TokenizedRow("a", START, [[4]], 1)],
}


def build(name, attention=None):
    model_class, config = ARCHITECTURES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(copy.deepcopy(config)).eval()
        for parameter in model.parameters():
            # Freshly initialised models predict almost uniformly: spread them, so that a wrong column shows.
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    if attention is not None:
        model.set_attn_implementation(attention)
    return model


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    return build(request.param)


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(scope="module", params=ROWS)
def rows(request):
    return ROWS[request.param]


def one_at_a_time(model, prompt, completion):
    """Log-probabilities of the completion: token by token, no padding, no mask, softmax in float64."""
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].double()
    return torch.stack(
        [
            logits[place - 1, token] - logits[place - 1].exp().sum().log()
            for place, token in enumerate(completion, len(prompt))
        ]
    )


def expected_logps(model, rows):
    width = max(len(row.completion_ids) for row in rows)
    return torch.stack(
        [
            torch.stack(
                [one_at_a_time(model, row.prompt_ids, completion).sum() for completion in row.completion_ids]
                + [torch.zeros((), dtype=torch.float64)] * (width - len(row.completion_ids))
            )
            for row in rows
        ]
    )


@pytest.fixture(scope="module")
def expected(model, rows):
    with torch.no_grad():
        return expected_logps(model, rows)


def gradients(policy, logps, weights):
    """Of a weighted sum, so that no two candidates can stand in for each other."""
    policy.zero_grad()
    (logps * weights).sum().backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def random_weights(rows):
    width = max(len(row.completion_ids) for row in rows)
    return torch.randn(len(rows), width, generator=torch.Generator().manual_seed(1))


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    assert max(gradient.abs().max() for gradient in expected.values()) > 0.1
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_layouts_are_layouts(layout):
    assert isinstance(layout, Layout)


@torch.no_grad()
def test_equals_one_sequence_at_a_time(model, rows, expected, layout):
    batch = layout(rows, PAD)
    logps = completion_logps(model, batch)
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps.double(), expected, rtol=1e-6, atol=1e-5)
    live = torch.tensor([[k < len(row.completion_ids) for k in range(logps.shape[1])] for row in rows])
    assert batch.candidate_mask.equal(live)
    assert (logps[live] < 0).all()
    assert logps[~live].eq(0).all()


@torch.no_grad()
def test_every_token_has_its_place(layout):
    """Behind the last token of a candidate, and where none is, stands 0."""
    model, rows = build("llama"), ROWS["a long common start"]
    found = token_logps(model, layout(rows, PAD))
    assert found.shape == (4, 4, 9)
    for anchor, row in zip(found, rows, strict=True):
        for candidate, logps in enumerate(anchor):
            expected = torch.zeros(9, dtype=torch.float64)
            if candidate < len(row.completion_ids):
                completion = row.completion_ids[candidate]
                expected[: len(completion)] = one_at_a_time(model, row.prompt_ids, completion)
            torch.testing.assert_close(logps.double(), expected, rtol=1e-6, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_one_sequence_at_a_time_in_eager_attention(name):
    """It adds its mask where the others choose by it."""
    model = build(name, "eager")
    for rows in (ROWS["nothing in common"], ROWS["a long common start"]):
        expected = expected_logps(model, rows)
        for layout in LAYOUTS.values():
            logps = completion_logps(model, layout(rows, PAD))
            torch.testing.assert_close(logps.double(), expected, rtol=1e-6, atol=1e-5)


def test_attention_is_not_eager_elsewhere(model):
    """Of Gemma 2 the library has no other."""
    assert (model.config._attn_implementation == "sdpa") == (model.config.model_type != "gemma2")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_models_do_not_predict_uniformly(name):
    """Else the tests of this file would see nothing."""
    rows = random_rows()
    batch = pad(rows, PAD)
    with torch.no_grad():
        off = completion_logps(build(name), batch) + torch.tensor(VOCAB).log() * batch.completion_lengths
    assert off.abs().max() > 0.5


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite"])
def test_what_the_model_does_to_its_logits_matters_here(name):
    """Else the tests of this file would not see it left out."""
    model, batch = build(name), pad(random_rows(), PAD)
    with torch.no_grad():
        with_it = completion_logps(model, batch)
        logits = model.lm_head(model.base_model(input_ids=torch.tensor([START])).last_hidden_state)
        without = logits.log_softmax(-1) - model(input_ids=torch.tensor([START])).logits.log_softmax(-1)
    assert with_it.isfinite().all()
    assert without.abs().max() > 0.1


@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(model, layout):
    rows = random_rows(START)
    together = completion_logps(model, layout(rows, PAD))
    for index, row in enumerate(rows):
        alone = completion_logps(model, layout([row], PAD))[0]
        torch.testing.assert_close(together[index, : len(alone)], alone, rtol=1e-6, atol=1e-5)
    backwards = completion_logps(model, layout(rows[::-1], PAD))
    torch.testing.assert_close(backwards.flip(0), together, rtol=1e-6, atol=1e-5)


@torch.no_grad()
def test_candidates_do_not_see_each_other(layout):
    """Changing every other candidate leaves a candidate as it is, to the last bit where nothing moves."""
    model, rows = build("llama"), random_rows(START)
    logps = completion_logps(model, layout(rows, PAD))
    others = [
        row._replace(completion_ids=[row.completion_ids[0], *([i % 60 + 1 for i in c] for c in row.completion_ids[1:])])
        for row in rows
    ]
    changed = completion_logps(model, layout(others, PAD))
    torch.testing.assert_close(changed[:, 0], logps[:, 0], rtol=0, atol=1e-6)
    assert (changed != logps)[:, 1].all()


def test_the_pad_token_does_not_matter(layout):
    model, rows = build("llama"), random_rows()
    with torch.no_grad():
        torch.testing.assert_close(
            completion_logps(model, layout(rows, 0)), completion_logps(model, layout(rows, 17)), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_gradients_equal_those_of_one_sequence_at_a_time(name, layout):
    model, rows = build(name), random_rows()
    weights = random_weights(rows)
    expected = gradients(model, expected_logps(model, rows), weights)
    assert_same_gradients(gradients(model, completion_logps(model, layout(rows, PAD)), weights), expected)


@pytest.mark.parametrize("start", [(), START], ids=["nothing in common", "a long common start"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_of_all_weights_equal_those_of_padded(name, start):
    policy, rows = FullFineTuning().attach(build(name)), random_rows(start)
    weights = random_weights(rows)
    expected = gradients(policy, completion_logps(policy, pad(rows, PAD)), weights)
    assert len(expected) == len(list(policy.parameters()))
    for layout in LAYOUTS.values():
        assert_same_gradients(gradients(policy, completion_logps(policy, layout(rows, PAD)), weights), expected)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_of_an_adapter_equal_those_of_padded(name):
    rows = random_rows(START)
    weights = random_weights(rows)
    policy = lora(build(name))
    expected = gradients(policy, completion_logps(policy, pad(rows, PAD)), weights)
    assert expected
    assert all("lora_" in name for name in expected), "the base is frozen"
    assert all(gradient.any() for gradient in expected.values())
    for layout in LAYOUTS.values():
        assert_same_gradients(gradients(policy, completion_logps(policy, layout(rows, PAD)), weights), expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gradients_of_an_adapter_of_the_head_equal_those_of_padded(attention):
    rows = random_rows(START)
    weights = random_weights(rows)
    policy = lora(build("llama", attention), ["q_proj", "lm_head"])
    expected = gradients(policy, completion_logps(policy, pad(rows, PAD)), weights)
    assert any("lm_head" in name for name in expected)
    for layout in LAYOUTS.values():
        assert_same_gradients(gradients(policy, completion_logps(policy, layout(rows, PAD)), weights), expected)


def lora(model, target_modules="all-linear"):
    """With an adapter that changes the model's outputs."""
    policy = Lora(4, 8, 0.0, target_modules).attach(model)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in policy.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


@torch.no_grad()
def test_bfloat16_is_as_near_to_float32_in_every_layout(layout):
    rows = random_rows(START)
    exact = expected_logps(build("llama"), rows)
    half = build("llama").bfloat16()
    padded = (completion_logps(half, pad(rows, PAD)) - exact).abs().max()
    found = completion_logps(half, layout(rows, PAD))
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 2 * padded < 0.5
