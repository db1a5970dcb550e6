"""What is counted without weights is what the same model takes with them."""

import contextlib
from functools import partial

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig

from sempa_lightning.models.adapters import FullFineTuning, Lora
from sempa_lightning.models.causal_lm import causal_lm, decoder, load_causal_lm, outline
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.mask import tree_mask
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.training.footprint import Spread, Work, count_pass, footprint, optimizer_bytes
from sempa_lightning.training.optimizers import parameter_groups
from sempa_lightning.types import TokenizedRow

# The newer name of this method is not in all versions of transformers 5.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")

NANO = "pkg://sempa_lightning/assets/nano"
LORA, FULL = Lora(8, 32, 0.0, "all-linear"), FullFineTuning()
ADAMW = partial(torch.optim.AdamW, lr=1e-3)
LAYERS, HIDDEN, VOCAB = 6, 256, 8192
# Adapter, dtype of the weights, autocast, checkpointing.
CASES = {
    "lora": (LORA, "float32", None, False),
    "lora autocast": (LORA, "float32", torch.bfloat16, False),
    "lora bfloat16": (LORA, "bfloat16", torch.bfloat16, False),
    "lora checkpointing": (LORA, "float32", None, True),
    "lora bfloat16 checkpointing": (LORA, "bfloat16", torch.bfloat16, True),
    "full": (FULL, "float32", None, False),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 8000, (16, 54), generator=generator).tolist()
    rows = [TokenizedRow(str(n), row[:30], [row[30:42], row[42:]], 1) for n, row in enumerate(ids)]
    return Packed(128)(rows, 0)


def work_of(batch, autocast, checkpointing):
    sequences = batch.sequences
    scored = len(sequences.predictors.unique())
    length = sequences.input_ids.shape[1]
    return Work(sequences.input_ids.numel(), scored, scored, length, autocast=autocast, checkpointing=checkpointing)


def precision(autocast):
    return torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext()


def kept_by(policy, sequences, autocast):
    """Bytes of the distinct storages that autograd keeps, weights aside, and the operations of the pass."""
    backbone, kept = decoder(policy), {}
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*policy.parameters(), *policy.buffers())}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # alive, so that no address comes twice
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        precision(autocast),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        states = backbone(
            input_ids=sequences.input_ids,
            position_ids=sequences.position_ids,
            attention_mask=tree_mask(sequences, backbone),
            use_cache=False,
        ).last_hidden_state
    forward = counter.get_total_flops()
    saved = sum(storage.nbytes() for address, storage in kept.items() if address not in weights)
    with FlopCounterMode(display=False) as counter:
        states.sum().backward()
    return saved, forward, counter.get_total_flops()


def test_what_a_forward_pass_keeps_and_its_operations_are_counted_exactly(case, batch):
    adapter, dtype, autocast, checkpointing = case
    policy = adapter.attach(load_causal_lm(NANO, dtype=dtype, gradient_checkpointing=checkpointing).model)
    saved, forward, backward = kept_by(policy, batch.sequences, autocast)
    work = work_of(batch, autocast, checkpointing)
    bare = adapter.attach(outline(NANO, dtype=dtype))
    counted = count_pass(bare, work)
    assert counted.forward == forward
    if checkpointing:
        # The embeddings of a checkpointing model have a gradient, which costs a little more in the first layer.
        assert counted.backward + forward == pytest.approx(backward, rel=0.03)
        assert footprint(bare, ADAMW, work, Spread()).activations == pytest.approx(saved, rel=0.01)
    else:
        assert counted.saved == saved
        assert counted.backward == backward


def test_the_peak_of_a_step_is_predicted_within_a_tenth(case, batch):
    """Measured by the allocator of the CPU, in the second of two micro-batches, when there are gradients."""
    adapter, dtype, autocast, checkpointing = case
    policy = adapter.attach(load_causal_lm(NANO, dtype=dtype, gradient_checkpointing=checkpointing).model)

    def micro_batch():
        with precision(autocast):
            losses = completion_logps(policy, batch).sum()
        losses.backward()

    micro_batch()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        micro_batch()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    found = footprint(
        adapter.attach(outline(NANO, dtype=dtype)), ADAMW, work_of(batch, autocast, checkpointing), Spread()
    )
    assert peak > 10 * 2**20
    assert found.activations + found.working == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(("adapter", "dtype"), [(LORA, "float32"), (LORA, "bfloat16"), (FULL, "float32")])
def test_weights_and_state_are_counted_exactly(adapter, dtype):
    policy = adapter.attach(load_causal_lm(NANO, dtype=dtype).model)
    bare = adapter.attach(outline(NANO, dtype=dtype))
    assert {(n, p.dtype, p.shape, p.requires_grad) for n, p in bare.named_parameters()} == {
        (n, p.dtype, p.shape, p.requires_grad) for n, p in policy.named_parameters()
    }
    assert all(parameter.is_meta for parameter in bare.parameters())
    optimizer = ADAMW(parameter_groups(policy))
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    state = sum(value.nbytes for values in optimizer.state.values() for value in values.values())
    assert optimizer_bytes(bare, ADAMW) == state
    assert optimizer_bytes(bare, partial(torch.optim.SGD, lr=1.0)) == 0


@pytest.mark.parametrize(
    ("shape", "parameters", "adapter"),
    [
        # As their model cards on the Hub count them; the adapter of the second as the paper's code prints it.
        ((128256, 2048, 8192, 16, 32, 8, True), 1_235_814_400, 5_636_096),
        ((128256, 4096, 14336, 32, 32, 8, False), 8_030_261_248, 20_971_520),
    ],
)
def test_models_of_the_hub_have_the_sizes_that_they_are_known_by(shape, parameters, adapter):
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = LlamaConfig(
        **dict(zip(names, shape, strict=False)), num_key_value_heads=shape[5], tie_word_embeddings=shape[6]
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    policy = LORA.attach(model)
    assert sum(p.numel() for p in policy.parameters() if not p.requires_grad) == parameters
    assert sum(p.numel() for p in policy.parameters() if p.requires_grad) == adapter


def test_the_operations_of_a_step_are_counted_exactly(batch):
    policy = LORA.attach(load_causal_lm(NANO).model)
    with FlopCounterMode(display=False) as counter:
        completion_logps(policy, batch).sum().backward()
    found = footprint(LORA.attach(outline(NANO)), ADAMW, work_of(batch, None, False), Spread())
    assert found.flops == counter.get_total_flops()


def test_devices_share_what_is_sharded(batch):
    bare, work = LORA.attach(outline(NANO)), work_of(batch, None, False)
    one, copies, shards = (footprint(bare, ADAMW, work, spread) for spread in (Spread(), Spread(4), Spread(4, True)))
    assert copies._replace(exchanged=0) == one
    assert copies.exchanged == one.trained  # buckets
    assert shards.gradients == one.gradients  # they add up over micro-batches before they are exchanged
    for field in "frozen", "trained", "optimizer":
        assert getattr(shards, field) == -(-getattr(one, field) // 4)
    layer = sum(p.nbytes for name, p in bare.named_parameters() if ".layers.0." in name)
    rest = VOCAB * HIDDEN * 4 + HIDDEN * 4  # embeddings, which are the head, too, and the final norm
    assert shards.exchanged == 2 * layer + rest
    assert (shards.activations, shards.working, shards.flops) == (one.activations, one.working, one.flops)
    assert one.total == sum(one[:-1])
    for spread, without in (Spread(), one), (Spread(4, True), shards):
        frozen = footprint(bare, ADAMW, work, spread, frozen_copies=1)
        assert frozen.frozen - without.frozen == one.frozen + one.trained


def test_passes_add_up_and_an_outline_reads_no_weights(batch, tmp_path):
    causal_lm(load_causal_lm(NANO).model).config.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    bare, work = LORA.attach(outline(str(tmp_path))), work_of(batch, None, False)
    one = footprint(bare, ADAMW, work, Spread())
    two = footprint(bare, ADAMW, Work(**{**vars(work), "passes": 2}), Spread())
    assert (two.activations, two.flops) == (2 * one.activations, 2 * one.flops)
