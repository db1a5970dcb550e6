"""Exported models, loaded by other libraries alone, do what the run's own model does."""

import base64
import json
import os
import re
import resource
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import torch

from sempa_lightning.artifacts import RunDir
from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError
from sempa_lightning.export import export
from sempa_lightning.notebook import load

ODD = [
    "",
    " ",
    ".",
    '"',
    "?",
    "'",
    "No final punctuation",
    "A question?",
    "An exclamation!",
    'She said "no" twice.',
    'Who said "go"?',
    'It ends in a quote "here"',
    "It ends in one 'here'",
    "Ärger über 東京 🙂",
    "two\nlines\tand a tab",
    "  spaces  all around  ",
    "{{ braces }} {% and %} \\ more",
    "https://example.org/picture.png",
    "<|endoftext|> is a token",
    "long " * 40 + "end",
]
PROMPTS = ["The old bridge", "A girl is teaching her little brother to", "Prices"]

# Runs the cards' own code blocks, in a process that must not need this package.
ELSEWHERE = """
import json, pathlib, sys
sentences, prompts, codes, result = map(json.loads, sys.argv[1:])
import torch
from transformers import AutoTokenizer
outputs = {}
for kind, code in codes.items():
    scope = {}
    exec(code, scope)
    model = scope["model"]
    if kind == "sentence-transformers":
        outputs[kind] = torch.as_tensor(model.encode(sentences))
    else:
        tokenizer = AutoTokenizer.from_pretrained(kind)
        rows = [tokenizer(prompt, return_tensors="pt") for prompt in prompts]
        greedy = [model.generate(**row, max_new_tokens=16, do_sample=False) for row in rows]
        outputs[kind] = [ids[0].tolist() for ids in greedy]
assert not any(name.startswith("sempa") for name in sys.modules)
torch.save(outputs, result)
"""


def demo_sentences(number):
    lines = local_path("pkg://sempa_lightning/assets/demo/train.jsonl").read_text().splitlines()
    return sorted({text for line in lines for text in json.loads(line)["chosen"]})[:number]


def test_every_format_does_elsewhere_what_the_run_does(write_run, tmp_path):
    run = write_run()
    sentences = [*ODD, *demo_sentences(1000 - len(ODD))]
    assert len(sentences) == 1000
    places = export(run, run.export, None, None)
    assert list(places) == ["adapter", "merged", "sentence-transformers"]
    codes = {}
    for kind in places:
        card = (run.export / kind / "README.md").read_text()
        codes[kind] = next(code for code in re.findall(r"```python\n(.*?)```", card, re.S) if f'"{kind}"' in code)
    result = tmp_path / "result.pt"
    arguments = [json.dumps(value) for value in (sentences, PROMPTS, codes, str(result))]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], cwd=run.export, check=True)
    outputs = torch.load(result)

    model = load(run.path, device="cpu")
    untrained = load(tmp_path / "base", device="cpu")
    expected = model.encode(sentences)
    cosine = torch.cosine_similarity(outputs["sentence-transformers"], expected)
    assert cosine.min() >= 0.999999
    assert torch.cosine_similarity(untrained.encode(sentences), expected).max() < 0.99
    for kind in ("adapter", "merged"):
        texts = [
            model.tokenizer.decode(ids[len(model.tokenizer.encode(prompt)) :], skip_special_tokens=True).strip()
            for prompt, ids in zip(PROMPTS, outputs[kind], strict=True)
        ]
        assert texts == model.generate(PROMPTS, max_new_tokens=16)
        assert texts != untrained.generate(PROMPTS, max_new_tokens=16)


def test_a_sentence_beyond_the_context_keeps_the_text_behind_it(write_run):
    from sentence_transformers import SentenceTransformer

    run = write_run()
    sentences = ["The quick brown fox jumps over the lazy dog. " * 40, "word " * 500, "東京" * 300]
    expected = load(run.path, device="cpu").encode(sentences)
    folder = export(run, run.export, ["sentence-transformers"], None)["sentence-transformers"]
    vectors = torch.as_tensor(SentenceTransformer(folder, device="cpu").encode(sentences))
    assert torch.cosine_similarity(vectors, expected).min() >= 0.999999


@pytest.mark.parametrize(
    "readout",
    [
        {"layer": -2},
        {"pooling": {"_target_": "torch.mean", "_partial_": True}},
        {"preprocess": {"_target_": "builtins.ascii", "_partial_": True}},
    ],
)
def test_a_readout_that_cannot_be_written_stops_the_export_before_it_starts(write_run, readout):
    run = write_run(readout=readout)
    with pytest.raises(UserError, match=r"readout\..*formats=\[adapter,merged\] exports the rest"):
        export(run, run.export, None, None, ["torch", "builtins"])
    assert not run.export.exists()
    assert set(export(run, run.export, ["merged", "adapter"], None, ["torch", "builtins"])) == {"adapter", "merged"}


def test_a_run_that_trained_all_weights_has_no_adapter(write_run):
    run = write_run(full=True)
    with pytest.raises(UserError, match=r"no adapter.*formats=\[merged,sentence-transformers\]"):
        export(run, run.export, ["adapter"], None)
    assert set(export(run, run.export, None, None)) == {"merged", "sentence-transformers"}
    expected = load(run.path, device="cpu").generate(PROMPTS)
    assert load(run.export / "merged", device="cpu").generate(PROMPTS) == expected


def test_the_adapter_names_its_base_as_the_config_does(write_run, tmp_path):
    run = write_run()
    export(run, run.export, ["adapter"], None)
    settings = json.loads((run.export / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")


def test_an_upload_without_network_tells_so_after_the_export(write_run):
    run = write_run()
    with pytest.raises(UserError, match=r"not uploaded to me/model-adapter: .*`hf upload me/model-adapter ") as error:
        export(run, run.export, ["adapter"], "me/model")
    assert "\n" not in str(error.value)
    assert (run.export / "adapter" / "adapter_model.safetensors").is_file()


def test_a_bad_hub_name_stops_the_export_before_it_starts(write_run):
    run = write_run()
    with pytest.raises(UserError, match="push=a/b/c is no name for the Hub"):
        export(run, run.export, None, "a/b/c")
    assert not run.export.exists()


class Hub(BaseHTTPRequestHandler):
    """The four calls of an upload, answered as the Hub does."""

    uploaded: ClassVar[dict[str, bytes]] = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        host = f"http://{self.headers['Host']}"
        answer = {"url": f"{host}/me/model"}
        if "/preupload/" in self.path:
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            answer = {"files": files}
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    name = f"{self.path.split('/')[4]}/{line['value']['path']}"
                    self.uploaded[name] = base64.b64decode(line["value"]["content"])
            answer = {"success": True, "commitUrl": f"{host}/me/model/commit/0", "commitOid": "0" * 40}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def test_an_upload_makes_a_repository_of_each_format(write_run):
    run = write_run()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
    done = command(f"run={run.path}", "formats=[adapter]", "push=me/model", env={**os.environ, **hub})
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "adapter: me/model-adapter\n"
    assert set(Hub.uploaded) == {f"model-adapter/{file.name}" for file in (run.export / "adapter").iterdir()}
    weights = "adapter_model.safetensors"
    assert Hub.uploaded[f"model-adapter/{weights}"] == (run.adapter / weights).read_bytes()
    assert b'"me/model-adapter"' in Hub.uploaded["model-adapter/README.md"]


def command(*overrides, **options):
    call = [sys.executable, "-m", "sempa_lightning.export", *overrides]
    return subprocess.run(call, capture_output=True, text=True, check=False, **options)


def test_the_command_line(write_run, tmp_path):
    run = write_run()
    out = tmp_path / "new"
    done = command(f"run={run.path}", f"out={out}", "formats=[merged]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"merged: {out}/merged\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "new", "run"]
    again = command(f"run={run.path}", f"out={out}", cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1] == f"error: out={out} exists already: remove it or name a new folder"


def test_a_full_disk_leaves_nothing_half_written(write_run):
    run = write_run()

    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = command(f"run={run.path}", "formats=[merged]", preexec_fn=limit_file_size)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot write {run.export}: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in run.path.iterdir() if "export" in path.name] == []


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapted_end_of_a_model_with_tied_ends_is_merged_into_that_end_alone(write_run, tiny_llama, target):
    """`tiny_llama` ties nothing, so a tied one is made of it first."""
    tiny_llama.config.tie_word_embeddings = True
    tiny_llama.tie_weights()
    assert tiny_llama.lm_head.weight is tiny_llama.model.embed_tokens.weight
    run = write_run(target_modules=["q_proj", target])
    export(run, run.export, ["merged", "sentence-transformers"], None)
    model, exported = load(run.path, device="cpu"), load(run.export / "merged", device="cpu")
    ids = model.tokenizer("A girl is reading.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.policy(ids).logits
        torch.testing.assert_close(exported.policy(ids).logits, expected, atol=1e-4, rtol=1e-4)
    head, embeddings = exported.policy.lm_head.weight, exported.policy.model.embed_tokens.weight
    assert (head - embeddings).abs().max() > 0.01


def test_an_export_that_computes_something_else_is_not_written(write_run, monkeypatch):
    """Here the export loses the adapter."""
    run = write_run()
    monkeypatch.setattr("sempa_lightning.export.merged", lambda policy: policy.unload())
    for formats, name in ((["merged"], "merged"), (["sentence-transformers"], "sentence-transformers")):
        with pytest.raises(UserError, match=rf"^formats=\[{name}\]: .* relative error \d.*formats=\[adapter\]"):
            export(run, run.export, formats, None)
        assert not run.export.exists()


def test_the_adapter_of_a_model_of_the_package_can_be_loaded(tmp_path):
    """Its base has a name that only this package knows."""
    from sempa_lightning.models.adapters import Lora, save_policy
    from sempa_lightning.models.causal_lm import load_causal_lm

    nano = "pkg://sempa_lightning/assets/nano"
    base, tokenizer = load_causal_lm(nano)
    policy = Lora(r=2, alpha=4, dropout=0.0, target_modules=["q_proj"]).attach(base)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    folder = save_policy(policy, tokenizer, RunDir(tmp_path))
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": nano}))
    loaded = load(folder, device="cpu")
    ids = tokenizer("A girl is reading.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(loaded.policy(ids).logits, policy(ids).logits)
        with policy.disable_adapter():
            assert (policy(ids).logits - loaded.policy(ids).logits).abs().max() > 0.1
