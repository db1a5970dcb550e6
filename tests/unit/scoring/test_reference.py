"""The frozen model: what it scores, and that lending it leaves the policy as found."""

import copy
import functools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import FullFineTuning, Lora
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import Padded
from sempa_lightning.scoring.reference import AdapterDisabled, Cached, Frozen, NoReference, Reference


@pytest.fixture
def base_logps(tiny_llama, batch):
    with torch.no_grad():
        return completion_logps(tiny_llama, batch)


@pytest.fixture
def lora(tiny_llama, base_logps):
    torch.manual_seed(0)
    return Lora(r=4, alpha=8, dropout=0.5, target_modules="all-linear").attach(tiny_llama)


def perturb(policy):
    """Move every trainable weight, as training would."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


def modes(model):
    return [module.training for module in model.modules()]


def flags(model):
    return [parameter.requires_grad for parameter in model.parameters()]


def test_adapter_disabled_is_exactly_the_base_model(lora, batch, base_logps):
    reference = AdapterDisabled(lora)
    assert torch.equal(reference.logps(lora, batch), base_logps)
    with torch.no_grad():
        assert torch.equal(completion_logps(lora.eval(), batch), base_logps), "a fresh adapter changes nothing"


def test_adapter_disabled_does_not_move_with_the_adapter(lora, batch, base_logps):
    reference = AdapterDisabled(lora)
    perturb(lora)
    with torch.no_grad():
        moved = completion_logps(lora.eval(), batch)
    assert (moved - base_logps).abs()[batch.candidate_mask].min() > 1e-4
    assert torch.equal(reference.logps(lora, batch), base_logps)


def test_adapter_disabled_leaves_the_adapter_on(lora, batch):
    reference = AdapterDisabled(lora)
    perturb(lora.eval())
    with torch.no_grad():
        before = completion_logps(lora, batch)
        reference.logps(lora, batch)
        assert torch.equal(completion_logps(lora, batch), before)


def test_adapter_disabled_leaves_the_adapter_on_after_an_error(lora, batch):
    reference = AdapterDisabled(lora)
    perturb(lora.eval())
    before = flags(lora)
    with torch.no_grad():
        expected = completion_logps(lora, batch)
    with pytest.raises(ZeroDivisionError), reference.active(lora):
        raise ZeroDivisionError
    assert flags(lora) == before
    with torch.no_grad():
        assert torch.equal(completion_logps(lora, batch), expected)


@pytest.mark.parametrize("frozen_layers", ["none", "first", "all"])
def test_adapter_disabled_leaves_trainable_flags_and_modes_as_found(lora, batch, frozen_layers):
    for name, parameter in lora.named_parameters():
        if frozen_layers == "all" or (frozen_layers == "first" and "layers.0." in name):
            parameter.requires_grad_(False)
    before, modes_before = flags(lora), modes(lora)
    assert any(before) == (frozen_layers != "all")
    assert len(set(modes_before)) == 2, "base in evaluation mode, adapter in training mode"
    reference = AdapterDisabled(lora)
    reference.logps(lora, batch)
    assert flags(lora) == before
    assert modes(lora) == modes_before


def test_gradients_flow_in_policy_forwards_before_and_after_the_reference(lora, batch):
    reference = AdapterDisabled(lora)
    perturb(lora.eval())

    def gradients(order):
        lora.zero_grad()
        if order == "no reference":
            logps = completion_logps(lora, batch)
        elif order == "policy first":
            logps = completion_logps(lora, batch)
            reference.logps(lora, batch)
        else:
            reference.logps(lora, batch)
            logps = completion_logps(lora, batch)
        logps.sum().backward()
        return [parameter.grad for parameter in lora.parameters() if parameter.requires_grad]

    expected = gradients("no reference")
    assert len(expected) == 2 * 7 * 2  # A and B of seven linear layers in two blocks
    assert all((gradient != 0).any() for gradient in expected)
    for order in ("policy first", "reference first"):
        assert all(torch.equal(got, want) for got, want in zip(gradients(order), expected, strict=True))


def test_adapter_disabled_is_without_dropout(lora, batch, base_logps):
    """Dropout of the policy is no reason for a reference that changes from step to step."""
    for module in lora.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    lora.train()
    assert not torch.allclose(completion_logps(lora, batch), base_logps)
    assert torch.equal(AdapterDisabled(lora).logps(lora, batch), base_logps)
    assert lora.training


def test_adapter_disabled_refuses_an_adapter_that_was_trained(lora):
    perturb(lora)
    with pytest.raises(UserError, match=r"set reference=frozen"):
        AdapterDisabled(lora)


def test_adapter_disabled_needs_an_adapter(tiny_llama):
    with pytest.raises(UserError, match=r"needs an adapter: set adapter=lora, or reference=frozen"):
        AdapterDisabled(tiny_llama)


@pytest.mark.parametrize("adapter", [FullFineTuning(), Lora(4, 8, 0.0, "all-linear")], ids=["full", "lora"])
def test_frozen_does_not_move_with_the_policy(tiny_llama, batch, base_logps, adapter):
    policy = adapter.attach(tiny_llama)
    reference = Frozen(policy)
    perturb(policy)
    assert torch.equal(reference.logps(policy, batch), base_logps)
    with torch.no_grad():
        assert not torch.allclose(completion_logps(policy, batch), base_logps)


def test_frozen_is_the_policy_as_it_was_with_its_adapter(lora, batch, base_logps):
    perturb(lora.eval())
    with torch.no_grad():
        start = completion_logps(lora, batch)
    reference = Frozen(lora)
    perturb(lora)
    assert torch.equal(reference.logps(lora, batch), start)
    assert not torch.allclose(start, base_logps)


def test_frozen_shares_nothing_and_is_not_trained(tiny_llama):
    policy = FullFineTuning().attach(tiny_llama).train()
    with Frozen(policy).active(policy) as model:
        assert not any(flags(model))
        assert not any(modes(model))
        assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in policy.parameters()}
    assert all(flags(policy))
    assert all(modes(policy))


@pytest.mark.parametrize("kind", [AdapterDisabled, Frozen])
def test_reference_has_no_gradient(lora, batch, kind):
    assert not kind(lora).logps(lora, batch).requires_grad


def test_the_lent_model_scores_as_the_reference_does(lora, batch, base_logps):
    reference = AdapterDisabled(lora)
    perturb(lora)
    original = copy.deepcopy(flags(lora))
    with torch.no_grad(), reference.active(lora) as model:
        assert torch.equal(completion_logps(model, batch), base_logps)
    assert flags(lora) == original


def test_no_reference_has_no_log_probabilities_and_lends_no_model(tiny_llama, batch):
    reference = NoReference(tiny_llama)
    with pytest.raises(UserError, match="reference=none: choose another, or loss=simpo"):
        reference.logps(tiny_llama, batch)
    with pytest.raises(UserError, match="reference=none"), reference.active(tiny_llama):
        pass


@pytest.mark.parametrize("live", [AdapterDisabled, Frozen])
def test_weights_have_the_names_of_a_model_without_adapter(tiny_llama, lora, live):
    """So that runs with and without an adapter share what they have computed."""
    weights = live(lora).weights(lora)
    base = {name: weight for name, weight in weights.items() if "lora_" not in name}
    plain = copy.deepcopy(lora).unload()
    assert base.keys() == {name for name, _ in plain.named_parameters()}
    assert all(torch.equal(base[name], weight) for name, weight in plain.named_parameters())
    assert (len(base) < len(weights)) == (live is Frozen), "a frozen copy may go on from an adapter"


class Counted:
    """A live reference, and how often it was asked."""

    def __init__(self, kind, policy):
        self.reference, self.calls = kind(policy=policy), 0
        self.active, self.weights = self.reference.active, self.reference.weights

    def logps(self, policy, batch):
        self.calls += 1
        return self.reference.logps(policy, batch)


@pytest.fixture
def cached(tmp_path):
    """Makes a reference over one and the same folder, as the next run or another process would."""

    def make(policy, kind=AdapterDisabled, folder=tmp_path):
        return Cached(policy, functools.partial(Counted, kind), str(folder))

    return make


def calls(reference, policy, batch):
    """How often the live reference is asked for this batch."""
    before = reference._live.calls
    reference.logps(policy, batch)
    return reference._live.calls - before


def files(folder):
    return sorted(folder.rglob("*.logps2"))


def attached(model, seed=0, r=4):
    torch.manual_seed(seed)
    return Lora(r=r, alpha=8, dropout=0.0, target_modules="all-linear").attach(copy.deepcopy(model))


def other_weights(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight[3, 5] += 1e-3
    return other


def test_cached_is_a_reference(lora, cached):
    assert isinstance(cached(lora), Reference)
    assert cached(lora).weights(lora).keys() == AdapterDisabled(lora).weights(lora).keys()


@pytest.mark.parametrize("kind", [AdapterDisabled, Frozen])
def test_cached_is_the_live_reference_to_the_last_bit(lora, batch, cached, kind):
    expected = kind(lora).logps(lora, batch)
    reference = cached(lora, kind)
    for _ in range(2):
        logps = reference.logps(lora, batch)
        assert torch.equal(logps, expected)
        assert logps.dtype == torch.float32
        assert not logps.requires_grad
    assert reference._live.calls == 1
    again = cached(lora, kind)
    assert torch.equal(again.logps(lora, batch), expected)
    assert again._live.calls == 0


def test_a_second_run_does_no_forward(lora, batch, cached, monkeypatch):
    expected = cached(lora).logps(lora, batch)

    def refuse(*_, **__):
        raise AssertionError("a forward pass")

    monkeypatch.setattr(type(lora.get_base_model().model), "forward", refuse)
    with pytest.raises(AssertionError, match="a forward pass"):
        AdapterDisabled(lora).logps(lora, batch)
    assert torch.equal(cached(lora).logps(lora, batch), expected)


def test_cached_does_not_move_with_the_adapter(lora, batch, base_logps, cached):
    reference = cached(lora)
    perturb(lora)
    assert torch.equal(reference.logps(lora, batch), base_logps)
    reference = cached(lora, Frozen)
    perturb(lora)
    assert calls(reference, lora, batch) == 1, "a frozen copy of a trained adapter is another model"
    assert not torch.allclose(reference.logps(lora, batch), base_logps)


@pytest.mark.parametrize("changes", [{"r": 8}, {"seed": 1}], ids=["rank", "seed"])
def test_cached_does_not_ask_how_the_policy_is_adapted(tiny_llama, batch, cached, changes):
    first, second = attached(tiny_llama), attached(tiny_llama, **changes)
    expected = cached(first).logps(first, batch)
    reference = cached(second)
    assert calls(reference, second, batch) == 0
    assert torch.equal(reference.logps(second, batch), expected)


def test_cached_is_shared_with_full_fine_tuning(tiny_llama, batch, cached):
    policy = attached(tiny_llama)
    cached(policy).logps(policy, batch)
    full = FullFineTuning().attach(tiny_llama)
    reference = cached(full, Frozen)
    assert calls(reference, full, batch) == 0
    perturb(full)
    assert calls(reference, full, batch) == 0


def test_cached_frozen_tells_adapters_apart(tiny_llama, batch, cached):
    """A run may go on from an adapter: the reference is the model with it."""
    first, second = attached(tiny_llama, 0), attached(tiny_llama, 0)
    perturb(second)
    cached(first, Frozen).logps(first, batch)
    reference = cached(second, Frozen)
    assert calls(reference, second, batch) == 1
    assert torch.equal(reference.logps(second, batch), Frozen(second).logps(second, batch))


LAYOUTS = {"padded": Padded(), "one anchor a sequence": Packed(1), "one sequence": Packed(1000)}


@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
def test_cached_does_not_ask_how_rows_are_laid_out(lora, batch, cached, first, second):
    rows = batch.rows
    expected = cached(lora).logps(lora, LAYOUTS[first](rows, 0))
    for changed in (rows, rows[::-1], rows[1:], [row._replace(id="x", num_chosen=2) for row in rows]):
        reference = cached(lora)
        other = LAYOUTS[second](changed, 0)
        assert calls(reference, lora, other) == 0
        order = [next(i for i, row in enumerate(rows) if row.prompt_ids == one.prompt_ids) for one in changed]
        assert torch.equal(reference.logps(lora, other), expected[order])


def test_cached_puts_candidates_in_their_places(lora, batch, cached):
    """The same candidates in another order, and some of them."""
    row = batch.rows[1]
    logps = cached(lora).logps(lora, batch)[1]
    turned = row._replace(completion_ids=row.completion_ids[::-1])
    some = row._replace(completion_ids=row.completion_ids[1:2])
    reference = cached(lora)
    found = reference.logps(lora, Packed(1)([some, turned], 0))
    assert reference._live.calls == 0
    assert torch.equal(found, torch.stack([torch.stack([logps[1], *logps.new_zeros(2)]), logps.flip(0)]))


@pytest.mark.parametrize("changed", ["prompt", "completion"])
def test_cached_asks_for_what_is_new(lora, batch, cached, changed):
    cached(lora).logps(lora, batch)
    row = batch.rows[0]
    new = {
        "prompt": row._replace(prompt_ids=[*row.prompt_ids[:-1], 12]),
        "completion": row._replace(completion_ids=[row.completion_ids[0], [12, 0]]),
    }[changed]
    reference = cached(lora)
    assert calls(reference, lora, Padded()([new, batch.rows[1]], 0)) == 1
    assert calls(reference, lora, Padded()([new], 0)) == 0
    expected = AdapterDisabled(lora).logps(lora, Padded()([new], 0))
    torch.testing.assert_close(reference.logps(lora, Padded()([new], 0)), expected, rtol=0, atol=1e-5)


def test_cached_knows_the_weights(tiny_llama, batch, cached):
    first, second = attached(tiny_llama), attached(other_weights(tiny_llama))
    cached(first).logps(first, batch)
    reference = cached(second)
    assert calls(reference, second, batch) == 1
    assert torch.equal(reference.logps(second, batch), AdapterDisabled(second).logps(second, batch))


def test_cached_knows_the_config(tiny_llama, batch, cached):
    """The same weights may compute something else."""
    policy = attached(tiny_llama)
    cached(policy).logps(policy, batch)
    tiny_llama.config.rms_norm_eps = 0.1
    other = attached(tiny_llama)
    assert calls(cached(other), other, batch) == 1


def test_cached_knows_the_weights_of_files(tiny_llama, batch, cached, tmp_path):
    """Which are hashed once, and again when the files have changed."""

    def load():
        return attached(LlamaForCausalLM.from_pretrained(tmp_path / "model"))

    tiny_llama.save_pretrained(tmp_path / "model")
    cached(load()).logps(load(), batch)
    (note,) = (tmp_path / "reference" / "hashes").iterdir()
    assert calls(cached(load()), load(), batch) == 0
    other_weights(tiny_llama).save_pretrained(tmp_path / "model")
    policy = load()
    reference = cached(policy)
    assert calls(reference, policy, batch) == 1
    assert torch.equal(reference.logps(policy, batch), AdapterDisabled(policy).logps(policy, batch))
    assert len(list(note.parent.iterdir())) == 2
    assert len({file.read_text() for file in note.parent.iterdir()}) == 2


def test_cached_knows_a_model_by_its_weights_wherever_it_lies(tiny_llama, batch, cached, tmp_path):
    for folder in ("here", "there"):
        tiny_llama.save_pretrained(tmp_path / folder)
    here, there = (attached(LlamaForCausalLM.from_pretrained(tmp_path / folder)) for folder in ("here", "there"))
    cached(here).logps(here, batch)
    assert calls(cached(there), there, batch) == 0


def test_cached_frozen_knows_adapters_over_weights_of_files(tiny_llama, batch, cached, tmp_path):
    tiny_llama.save_pretrained(tmp_path / "model")
    first, second = (attached(LlamaForCausalLM.from_pretrained(tmp_path / "model")) for _ in range(2))
    perturb(second)
    cached(first, Frozen).logps(first, batch)
    assert calls(cached(second, Frozen), second, batch) == 1


def test_cached_frozen_knows_modules_that_replace_weights_of_files(tiny_llama, batch, cached, tmp_path):
    """An adapter may bring whole modules of its own, which have the names of no file."""
    tiny_llama.save_pretrained(tmp_path / "model")
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    first, second = (
        get_peft_model(LlamaForCausalLM.from_pretrained(tmp_path / "model"), copy.deepcopy(config)) for _ in range(2)
    )
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        second.get_output_embeddings().weight.mul_(2)
    cached(first, Frozen).logps(first, batch)
    assert calls(cached(second, Frozen), second, batch) == 1


def test_cached_knows_the_precision_of_the_pass(lora, batch, cached):
    exact = cached(lora).logps(lora, batch)
    reference = cached(lora)
    with torch.autocast("cpu", torch.bfloat16):
        assert calls(reference, lora, batch) == 1
        half = reference.logps(lora, batch)
        assert calls(reference, lora, batch) == 0
    assert not torch.equal(half, exact)
    assert torch.equal(reference.logps(lora, batch), exact)
    with torch.autocast("cpu", torch.float16):
        assert calls(reference, lora, batch) == 1
    second = cached(lora)
    with torch.autocast("cpu", torch.bfloat16):
        assert calls(second, lora, batch) == 0
        assert torch.equal(second.logps(lora, batch), half)


def test_cached_knows_the_precision_of_the_weights(tiny_llama, batch, cached):
    cached(attached(tiny_llama)).logps(attached(tiny_llama), batch)
    half = attached(tiny_llama.bfloat16())
    assert calls(cached(half), half, batch) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_cached_does_not_trust_what_is_damaged(lora, batch, base_logps, cached, tmp_path, damage):
    cached(lora).logps(lora, batch)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    for at in range(0, len(content), 11):
        file.write_bytes(
            {
                "cut": content[:at],
                "flipped": content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :],
                "empty": b"",
                "other": b"something else " * 20,
            }[damage]
        )
        reference = cached(lora)
        assert calls(reference, lora, batch) == 1
        assert torch.equal(reference.logps(lora, batch), base_logps)
        rebuilt = cached(lora)
        assert calls(rebuilt, lora, batch) == 0
        assert torch.equal(rebuilt.logps(lora, batch), base_logps)
        for other in files(tmp_path):
            if other != file:
                other.unlink()


def test_two_cached_at_once_both_survive(lora, batch, cached, tmp_path):
    first, second = cached(lora), cached(lora)
    for reference in (first, second):
        reference._cache(lora)  # both are open before either writes
    for row, reference in zip(batch.rows, (first, second), strict=True):
        assert calls(reference, lora, Padded()([row], 0)) == 1
    assert calls(first, lora, batch) == calls(second, lora, batch) == 0, "each sees what the other has written"
    assert len(files(tmp_path)) == 2
    assert calls(cached(lora), lora, batch) == 0


def test_a_row_scored_beside_others_keeps_its_first_value(lora, batch, cached, monkeypatch):
    """A resumed run must find the values that the run has used, whatever the rows stood beside."""
    reference = cached(lora)
    first = reference.logps(lora, Padded()(batch.rows[:1], 0))
    logps = AdapterDisabled.logps
    monkeypatch.setattr(AdapterDisabled, "logps", lambda *args: logps(*args) + 1e-3)
    used = reference.logps(lora, batch)
    assert torch.equal(used[0, : first.shape[1]], first[0])
    assert torch.equal(reference.logps(lora, batch), used)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_cached_keeps_nothing_that_is_not_finite(lora, batch, base_logps, cached, tmp_path, value):
    """It may come of a bad step, and would then come back for ever."""
    reference = cached(lora)
    with torch.no_grad():
        embedding = lora.get_base_model().model.embed_tokens.weight
        reference._cache(lora)  # the name of the weights as they were
        before = embedding[9].clone()
        embedding[9] = value
        assert not reference.logps(lora, batch).isfinite().all()
        assert not files(tmp_path)
        embedding[9] = before
    assert torch.equal(reference.logps(lora, batch), base_logps)
    assert files(tmp_path)


def test_cached_lends_the_live_reference(lora, batch, base_logps, cached):
    reference = cached(lora)
    perturb(lora)
    with torch.no_grad(), reference.active(lora) as model:
        assert torch.equal(completion_logps(model, batch), base_logps)
