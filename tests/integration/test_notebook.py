"""`sempa_lightning.load`: from a run, or from any model, to vectors and text."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import sempa_lightning
from sempa_lightning.entry import conf_dir
from sempa_lightning.errors import UserError
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.notebook import SEMPA_PROMPT, SEMPA_READOUT, _listed, load

SENTENCES = [
    "The old bridge was closed.",
    "A girl teaches her brother.",
    "Prices rose again last month, they say.",
]


def test_a_run_comes_back_with_its_weights_readout_and_prompt(write_run, tiny_llama, tiny_tokenizer):
    pooling = {"_target_": "sempa_lightning.pooling.mean.mean", "_partial_": True}
    run = write_run(readout={"pooling": pooling, "layer": -2})
    model = sempa_lightning.load(run.path, device="cpu")
    # The fixture has put the adapter into `tiny_llama` itself.
    expected = Embedder(tiny_llama, tiny_tokenizer, model.readout).encode(SENTENCES)
    assert torch.allclose(model.encode(SENTENCES), expected, atol=1e-6)
    assert model.readout.layer == -2
    assert model.readout.pooling.func.__name__ == "mean"
    assert model.prompt.fill("s") == 'Keep the same meaning of this sentence: "s", while making some changes.'
    assert not model.policy.training
    assert not any(parameter.requires_grad for parameter in model.policy.parameters())


def test_dtype_and_a_whole_model(write_run, tiny_llama, tiny_tokenizer):
    run = write_run(full=True)
    model = load(str(run.path), dtype="bfloat16", device="cpu")
    assert {parameter.dtype for parameter in model.policy.parameters()} == {torch.bfloat16}
    expected = Embedder(tiny_llama, tiny_tokenizer, SEMPA_READOUT).encode(SENTENCES)
    vectors = load(run.path, device="cpu").encode(SENTENCES)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors, expected, atol=1e-6)


def test_similarity_is_the_cosine_of_each_pair(write_run):
    model = load(write_run().path, device="cpu")
    vectors = model.encode(SENTENCES).double().numpy()
    values = model.similarity(SENTENCES[:2], SENTENCES)
    assert values.shape == (2, 3)
    for row, first in enumerate(vectors[:2]):
        for column, second in enumerate(vectors):
            cosine = first @ second / ((first @ first) * (second @ second)) ** 0.5
            assert float(values[row, column]) == pytest.approx(cosine, abs=1e-6)


def test_greedy_text_does_not_depend_on_batch_mates(write_run):
    model = load(write_run().path, device="cpu")
    single = []
    for sentence in SENTENCES:
        ids = model.tokenizer(sentence, return_tensors="pt")["input_ids"]
        for _ in range(12):
            best = model.policy(input_ids=ids).logits[0, -1].argmax()
            if best == model.tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, best[None, None]], dim=1)
        prompt = len(model.tokenizer.encode(sentence))
        single.append(model.tokenizer.decode(ids[0, prompt:], skip_special_tokens=True).strip())
    assert model.generate(SENTENCES, max_new_tokens=12) == single
    assert model.generate(SENTENCES, max_new_tokens=12, batch_size=2) == single
    assert len(set(single)) == 3


def test_paraphrases_are_asked_for_with_the_prompt_of_training(write_run):
    model = load(write_run().path, device="cpu")
    prompts = [
        f'Keep the same meaning of this sentence: "{sentence}", while making some changes.\n' for sentence in SENTENCES
    ]
    assert model.paraphrase(SENTENCES, max_new_tokens=8) == model.generate(prompts, max_new_tokens=8)


def test_a_temperature_draws(write_run):
    model = load(write_run().path, device="cpu")
    torch.manual_seed(0)
    drawn = {model.generate(["The"], max_new_tokens=8, temperature=2.0)[0] for _ in range(4)}
    assert len(drawn) > 1


def test_a_model_without_run_gets_the_readout_and_prompt_of_the_paper():
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", ["prompt=keep_meaning", "readout=prompt_eol"])
    assert instantiate(cfg.prompt) == SEMPA_PROMPT
    readout = instantiate(cfg.readout)
    assert (readout.template, readout.layer) == (SEMPA_READOUT.template, SEMPA_READOUT.layer)
    assert readout.preprocess is SEMPA_READOUT.preprocess
    assert readout.pooling.func is SEMPA_READOUT.pooling


def test_a_run_without_weights_says_what_to_do(write_run):
    run = write_run()
    run.adapter.rename(run.path / "elsewhere")
    with pytest.raises(UserError, match=r"has no adapter/ and no model/ yet: .* train resume="):
        load(run.path)


def test_a_base_model_that_is_gone_is_named(write_run, tmp_path):
    run = write_run()
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=f"no folder {tmp_path}/base"):
        load(run.path)


def test_a_part_that_cannot_be_built_is_named(write_run):
    run = write_run(readout={"preprocess": {"_target_": "my_code.clean", "_partial_": True}})
    with pytest.raises(UserError, match=r"my_code\.clean"):
        load(run.path)


def test_anything_but_a_list_of_sentences_is_refused(write_run):
    model = load(write_run().path, device="cpu")
    for method in (model.encode, model.generate, model.paraphrase):
        for refused in ("one string", []):
            with pytest.raises(UserError, match="give a list of"):
                method(refused)


@pytest.mark.parametrize(
    "sentences",
    [
        tuple(SENTENCES),
        np.array(SENTENCES),
        np.array(SENTENCES, dtype=object),
        pd.Series(SENTENCES, index=[5, 3, 3]),
        pd.Series(SENTENCES, dtype="string"),
        (sentence for sentence in SENTENCES),
    ],
    ids=lambda sentences: type(sentences).__name__,
)
def test_any_sequence_of_texts_is_listed_in_its_order(sentences):
    listed = _listed(sentences)
    assert listed == SENTENCES
    assert {type(text) for text in listed} == {str}


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (["a", None], "text 1 is None, not a text"),
        ([3], "text 0 is 3, not a text"),
        (pd.Series(["a", None]), "text 1 is nan, not a text"),
        (["a", "half \ud83d"], "text 1 has half of a surrogate pair"),
        (5, "expected a list of texts, found int"),
        (b"bytes", "expected a list of texts, found bytes"),
        ({"a": "b"}, "expected a list of texts, found dict"),
        ({"a", "b"}, "expected a list of texts, found set"),
        (np.array("one"), "expected a list of texts, found ndarray"),
        (np.array([["a"]]), "expected a list of texts, found ndarray"),
        (pd.DataFrame({"a": ["b"]}), "expected a list of texts, found DataFrame"),
        (np.array([]), "the list of texts is empty"),
    ],
)
def test_what_is_no_list_of_texts_is_named(sentences, expected):
    with pytest.raises(UserError, match=expected):
        _listed(sentences)


def test_the_package_itself_imports_nothing_heavy():
    code = "import sempa_lightning, sys; print(sorted({'torch', 'transformers', 'hydra'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("sys;", "sys, torch;")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['torch']\n"


def test_an_unknown_name_is_no_part_of_the_package():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = sempa_lightning.lod
