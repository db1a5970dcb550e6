"""Folders that are no whole model: one line each that says what they are and what to give instead."""

import re

import pytest

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.models.adapters import FullFineTuning, Lora, save_policy
from sempa_lightning.models.causal_lm import load_causal_lm, outline


@pytest.mark.parametrize("read", [load_causal_lm, outline])
def test_an_adapter_is_not_replaced_by_a_fresh_one(tmp_path, tiny_llama, tiny_tokenizer, read):
    """transformers loads such a folder, base and adapter, and a fresh LoRA would take the adapter's place."""
    tiny_llama.save_pretrained(tmp_path / "base")
    tiny_llama.config.name_or_path = str(tmp_path / "base")
    policy = Lora(4, 8, 0.0, "all-linear").attach(tiny_llama)
    folder = save_policy(policy, tiny_tokenizer, RunDir(tmp_path))
    with pytest.raises(UserError, match=rf"^model\.path={folder} holds an adapter.* adapter\.path={folder}"):
        read(str(folder))


@pytest.mark.parametrize(
    ("adapter", "remedy"),
    [(FullFineTuning(), "Set model.path={}/model"), (Lora(4, 8, 0.0, "all-linear"), "adapter.path={}/adapter")],
)
def test_a_run_folder_names_what_it_saved(tmp_path, tiny_llama, tiny_tokenizer, adapter, remedy):
    run = RunDir(tmp_path)
    save_policy(adapter.attach(tiny_llama), tiny_tokenizer, run)
    run.config.write_text("model: {}\n")
    with pytest.raises(
        UserError, match=rf"^model\.path={tmp_path} is a run folder.*{re.escape(remedy.format(tmp_path))}"
    ):
        load_causal_lm(str(tmp_path))


def test_a_sentence_encoders_readout_is_not_dropped_in_silence(tmp_path, tiny_llama, tiny_tokenizer):
    from sempa_lightning.models.sentence_transformer import save_sentence_transformer
    from sempa_lightning.notebook import SEMPA_READOUT, load

    save_sentence_transformer(tiny_llama, tiny_tokenizer, SEMPA_READOUT, tmp_path / "st")
    with pytest.raises(UserError, match=r"st is a sentence-transformers folder"):
        load(tmp_path / "st")
