"""The README.md of an exported model."""

import pytest
import yaml

from sempa_lightning.evaluation.model_card import ModelCard

CONFIG = {
    "model": {"_target_": "m.load_causal_lm", "path": "meta-llama/Llama-2-7b-hf"},
    "adapter": {"_target_": "a.Lora", "r": 8, "target_modules": ["q", "v"]},
    "objective": {"_target_": "o.Preference", "loss": {"_target_": "l.PlackettLuce", "beta": 0.1}},
    "scheduler": {"_target_": "s.cosine_with_warmup", "_partial_": True, "warmup_ratio": 0.05},
    "data": {"path": None, "train": {"table": {"path": "nli.csv"}}},
    "prompt": {"text": 'Rewrite "{sentence}" | now'},
    "readout": {
        "template": {"text": 'This sentence : "{sentence}" means in one word:"'},
        "preprocess": {"_target_": "p.end_with_full_stop"},
        "layer": -1,
        "pooling": {"_target_": "q.last_token"},
    },
}
MANIFEST = {
    "command": "python -m sempa_lightning.train model=llama2",
    "commit": None,
    "seed": 0,
    "data": {"path": "nli.csv", "train": {"read": 12, "kept": 10, "anchors": 9}},
}
SUMMARY = {
    "before/sts/demo/spearman": 0.5,
    "before/sts/sick/spearman": 0.25,
    "after/sts/demo/spearman": 0.625,
    "train/steps": 7,
}
LOCATIONS = {"adapter": "me/x-adapter", "sentence-transformers": "me/x-sentence-transformers"}


def text(which="adapter", **changes):
    return ModelCard(CONFIG | changes, MANIFEST, SUMMARY, LOCATIONS).text(which)


def test_the_card_says_how_the_model_was_made_and_what_it_measured():
    card = text()
    for line in (
        "# Llama-2-7b-hf, trained with sempa_lightning",
        "| metric | before | after | change |",
        "| sts/demo/spearman | 0.5 | 0.625 | +0.1250 |",
        "| adapter | `Lora(r=8, target_modules=['q', 'v'])` |",
        "| objective | `Preference(loss=PlackettLuce(beta=0.1))` |",
        "| scheduler | `cosine_with_warmup(warmup_ratio=0.05)` |",
        r'| prompt | `Rewrite "{sentence}" \| now` |',
        "| data, train | 10 rows kept of 12, 9 anchors |",
        "| steps | 7 |",
        "| seed | `0` |",
        "| command | `python -m sempa_lightning.train model=llama2` |",
        "* These weights derive from `meta-llama/Llama-2-7b-hf` and are under its licence.",
    ):
        assert line in card.splitlines()
    assert "sick" not in card  # measured before training only
    assert "commit" not in card
    assert "Apache" not in card
    assert 'Prompt `This sentence : "{sentence}" means in one word:"`' in card


@pytest.mark.parametrize(
    ("which", "library", "task"),
    [("adapter", "peft", "text-generation"), ("sentence-transformers",) * 2 + ("sentence-similarity",)],
)
def test_the_hub_reads_its_metadata(which, library, task):
    metadata = yaml.safe_load(text(which).split("---")[1])
    assert metadata == {
        "library_name": library,
        "pipeline_tag": task,
        "base_model": "meta-llama/Llama-2-7b-hf",
        "tags": ["sentence-embeddings", "sempa"],
    }


def test_only_exported_formats_are_shown_and_their_code_compiles():
    blocks = text().split("```python\n")[1:]
    codes = [block.partition("```")[0] for block in blocks]
    assert len(codes) == 2
    for code, where in zip(codes, LOCATIONS.values(), strict=True):
        compile(code, "card", "exec")
        assert where in code
        assert len(code.splitlines()) == 3


def test_what_ships_with_the_package_brings_its_licence():
    model = {"_target_": "m.load_causal_lm", "path": "pkg://sempa_lightning/assets/nano"}
    data = {"train": {"table": {"paths": ["pkg://sempa_lightning/assets/demo/train.jsonl"]}}}
    card = text(model=model, data=data)
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0"
    assert "pre-trained on articles of the English Wikipedia (CC BY-SA 3.0)" in card
    assert "* The training data were written for sempa_lightning" in card
    assert 'from_pretrained(local_path("pkg://sempa_lightning/assets/nano"), dtype="float32")' in card


def test_a_folder_is_no_model_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    model = {"_target_": "m.load_causal_lm", "path": "models/base"}
    assert "base_model" not in yaml.safe_load(text(model=model).split("---")[1])


def test_a_run_without_numbers_has_no_table_of_them():
    card = ModelCard(CONFIG, {}, {}, LOCATIONS).text("adapter")
    assert "## Numbers" not in card
    assert "## Training" in card


def test_the_readout_is_told_in_words_with_its_literal_prompt():
    """Line breaks and backticks would end a code span; a preparation may be named by a path, as in `conf/readout`."""
    method = {"_target_": "hydra.utils.get_method", "path": "sempa_lightning.prompts.sentence.end_with_full_stop"}
    template = {"text": 'One\nword ``for`` "{sentence}":', "chat": True, "system": "Be brief."}
    card = text(readout=CONFIG["readout"] | {"preprocess": method, "template": template}, prompt={"text": "a\nb"})
    assert '\n```text\nOne\nword ``for`` "{sentence}":\n```\n' in card
    assert "as a user turn of the model's chat template, after the system turn `Be brief.`" in card
    assert "gets a full stop" in card
    assert "not normalized" in card
    assert "get_method" not in card
    assert '| prompt | `` "a\\nb" `` |' in card.splitlines()


def test_the_base_of_an_adapter_is_loaded_in_the_dtype_of_the_run():
    assert 'dtype="bfloat16")' in text(model=CONFIG["model"] | {"dtype": "bfloat16"})
    assert 'dtype="float32")' in text()


def test_no_text_of_the_run_ends_its_code_span():
    card = text(prompt={"text": "a ``` b <b>\x1b[31m"})
    assert '| prompt | ```` "a ``` b <b>\\\\x1b[31m" ```` |' in card.splitlines()
    assert "\x1b" not in card
