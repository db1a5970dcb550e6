"""Loading a language model: from where, with which dropout, and what is said when it fails."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.causal_lm import (
    causal_lm,
    decoder,
    disable_dropout,
    evaluating,
    load_causal_lm,
    max_positions,
    outline,
)

IDS = torch.arange(1, 13)[None]
WITH_DROPOUT = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, embd_pdrop=0.3, attn_pdrop=0.3, resid_pdrop=0.3)
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            attention_dropout=0.3,
        )
    ),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=16,
            word_embed_proj_dim=16,
            dropout=0.3,
            attention_dropout=0.3,
            layerdrop=0.5,
        )
    ),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2, hidden_dropout=0.3, attention_dropout=0.3)
    ),
}


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_disable_dropout_makes_training_mode_deterministic(name):
    torch.manual_seed(0)
    model = WITH_DROPOUT[name]().train()
    with torch.no_grad():
        assert not torch.equal(model(IDS).logits, model(IDS).logits)
        disable_dropout(model)
        logits = model(IDS).logits
        assert model.training
        assert all(torch.equal(model(IDS).logits, logits) for _ in range(3))
        assert torch.equal(model.eval()(IDS).logits, logits)


@pytest.fixture
def folder(tmp_path, tiny_tokenizer):
    """A saved GPT-2 with dropout and the tiny tokenizer."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tiny_tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=32)
    assert config.resid_pdrop == 0.1
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
def test_gradient_checkpointing_computes_layers_again_and_changes_no_gradient(folder):
    def gradients(gradient_checkpointing):
        model = load_causal_lm(str(folder), gradient_checkpointing=gradient_checkpointing).model
        calls = []
        model.transformer.h[0].attn.register_forward_hook(lambda *_: calls.append(1))
        model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False).logits.logsumexp(-1).sum().backward()
        return len(calls), {name: parameter.grad for name, parameter in model.named_parameters()}

    (calls, kept), (calls_again, computed_again) = gradients(False), gradients(True)
    assert (calls, calls_again) == (1, 2)
    torch.testing.assert_close(computed_again, kept)


def test_a_folder_is_loaded_with_dropout_off(folder, tiny_tokenizer):
    model, tokenizer = load_causal_lm(str(folder))
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    saved = GPT2LMHeadModel.from_pretrained(folder)
    model.train()
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, saved(IDS).logits)


def test_dropout_can_be_left_on(folder):
    model = load_causal_lm(str(folder), dropout=True).model
    with torch.no_grad():
        assert not torch.equal(model(IDS).logits, model(IDS).logits)


def test_dtype_and_chat_template(folder):
    model, tokenizer = load_causal_lm(str(folder), dtype="bfloat16", chat_template="{{ messages[0]['content'] }}")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "Hi"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
@pytest.mark.parametrize(("dtype", "in_place"), [("bfloat16", True), ("float32", False)])
def test_weights_in_the_dtype_of_their_files_are_read_in_place(tmp_path, tiny_llama, tiny_tokenizer, dtype, in_place):
    """So processes of a machine share them, and what is not read takes no memory."""
    tiny_llama.to(torch.bfloat16).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model = load_causal_lm(str(tmp_path), dtype=dtype).model
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    of_file = [words[0].split("-") for words in maps if words[-1] == str(tmp_path / "model.safetensors")]
    spans = [range(int(start, 16), int(end, 16)) for start, end in of_file]
    for name, weight in model.named_parameters():
        assert any(weight.data_ptr() in span for span in spans) == in_place, name


@pytest.mark.parametrize("dtype", ["float33", "nn", ""])
def test_unknown_dtype(folder, dtype):
    with pytest.raises(UserError, match=rf"model\.dtype={dtype} is no dtype"):
        load_causal_lm(str(folder), dtype=dtype)


def test_a_missing_pad_token_becomes_the_end_token(folder, tiny_tokenizer):
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"pad_token"', '"pad_token_before"'))
    tokenizer = load_causal_lm(str(folder)).tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == tiny_tokenizer.eos_token_id


def test_pkg_paths_are_folders_of_an_installed_package(folder, tmp_path_factory, monkeypatch):
    site = tmp_path_factory.mktemp("site")
    (site / "some_models").mkdir()
    (site / "some_models" / "__init__.py").touch()
    folder.rename(site / "some_models" / "small")
    monkeypatch.syspath_prepend(site)
    model = load_causal_lm("pkg://some_models/small").model
    assert max_positions(model) == 32


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/no/such/folder", "no folder /no/such/folder: model.path"),
        ("./no-such-folder", "no folder no-such-folder: model.path"),
        ("pkg://sempa_lightning/no_such_model", "sempa_lightning/no_such_model: model.path"),
        ("pkg://no_such_package/model", "cannot load pkg://no_such_package/model: No module named"),
        ("no-such-organisation/no-such-model", "cannot load no-such-organisation/no-such-model: "),
    ],
)
def test_unknown_path_is_one_clear_line(path, said):
    with pytest.raises(UserError) as error:
        load_causal_lm(path)
    assert said in str(error.value)
    assert "config.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError) as error:
        load_causal_lm(str(folder))
    assert str(error.value).startswith(f"model.path: {folder} has no weights in safetensors")


CODE_OF_A_MODEL = """
open({canary!r}, "w")
from transformers import LlamaConfig, LlamaForCausalLM
class OddConfig(LlamaConfig):
    model_type = "odd"
class Odd(LlamaForCausalLM):
    config_class = OddConfig
"""


def test_code_that_comes_with_a_model_runs_only_where_it_is_trusted(folder, tmp_path, monkeypatch):
    canary = tmp_path / "it_ran"
    (folder / "odd.py").write_text(CODE_OF_A_MODEL.format(canary=str(canary)))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.Odd"}}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda _: "y")  # nobody is asked
    for load in (load_causal_lm, outline):
        with pytest.raises(UserError, match=r"^model\.trust_remote_code: .*model\.trust_remote_code=true"):
            load(str(folder))
        assert not canary.exists()


def test_weights_in_pickles_are_not_read(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"^model\.path: .*no weights in safetensors.*\.bin"):
        load_causal_lm(str(folder))


def test_evaluating_gives_every_module_its_own_mode_back(tiny_llama):
    tiny_llama.train()
    tiny_llama.model.layers[1].eval()
    before = [module.training for module in tiny_llama.modules()]
    with evaluating(tiny_llama):
        assert not any(module.training for module in tiny_llama.modules())
    assert [module.training for module in tiny_llama.modules()] == before
    with pytest.raises(ZeroDivisionError), evaluating(tiny_llama):
        raise ZeroDivisionError
    assert [module.training for module in tiny_llama.modules()] == before
    assert len(set(before)) == 2


def test_max_positions(tiny_llama):
    assert max_positions(tiny_llama) == 256
    assert max_positions(GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=48))) == 48


def test_decoder_is_the_model_without_its_head(tiny_llama):
    assert causal_lm(tiny_llama) is tiny_llama
    assert decoder(tiny_llama) is tiny_llama.model
    inner = tiny_llama.model
    policy = Lora(4, 8, 0.0, "all-linear").attach(tiny_llama)
    assert causal_lm(policy) is tiny_llama
    assert decoder(policy) is inner
