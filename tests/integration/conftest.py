"""What the integration tests share: a finished run for those of what is done with runs, and training on a tiny scale.

Training runs through the real entry point; in this process wherever a process of its own would show nothing more.
"""

import contextlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml


@pytest.fixture
def write_run(tmp_path, tiny_llama, tiny_tokenizer):
    """Write a run folder on a tiny base model, with LoRA weights that change it or with a whole model."""
    from sempa_lightning.artifacts import RunDir
    from sempa_lightning.models.adapters import FullFineTuning, Lora, save_policy

    def write(*, full=False, readout=None, target_modules="all-linear"):
        base = tmp_path / "base"
        tiny_llama.save_pretrained(base)
        tiny_tokenizer.save_pretrained(base)
        adapter = FullFineTuning() if full else Lora(r=4, alpha=8, dropout=0.0, target_modules=target_modules)
        policy = adapter.attach(tiny_llama)
        trained = [p for name, p in policy.named_parameters() if full or "lora_B" in name or "lora_embedding_A" in name]
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(1)
            for parameter in trained:
                parameter.add_(0.1 * torch.randn_like(parameter))
        run = RunDir(tmp_path / "run")
        save_policy(policy, tiny_tokenizer, run)
        run.config.write_text(yaml.safe_dump(_config(str(base), readout or {}, full)))
        counts = {"read": 12, "kept": 10, "anchors": 9}
        manifest = {"command": "python -m sempa_lightning.train seed=3", "seed": 3, "data": {"train": counts}}
        run.manifest.write_text(json.dumps(manifest))
        summary = {"before/sts/demo/spearman": 0.5, "after/sts/demo/spearman": 0.625, "train/steps": 7}
        run.summary.write_text(json.dumps(summary))
        return run

    return write


def _config(base, readout, full):
    """The part of a run's config that says how to rebuild and describe the model, as training resolves it."""
    package = "sempa_lightning"
    return {
        "model": {"_target_": f"{package}.models.causal_lm.load_causal_lm", "path": base},
        "adapter": {
            "_target_": f"{package}.models.adapters.{'FullFineTuning' if full else 'Lora'}",
            **({} if full else {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"}),
        },
        "objective": {
            "_target_": f"{package}.training.objectives.preference.Preference",
            "loss": {"_target_": f"{package}.losses.plackett_luce.PlackettLuce", "beta": 0.1},
        },
        "data": {"train": {"table": {"path": f"pkg://{package}/assets/demo/train.jsonl"}}},
        "prompt": {
            "_target_": f"{package}.prompts.template.PromptTemplate",
            "text": 'Keep the same meaning of this sentence: "{sentence}", while making some changes.',
            "separator": "\n",
        },
        "readout": {
            "_target_": f"{package}.models.embedder.Readout",
            "template": {
                "_target_": f"{package}.prompts.template.PromptTemplate",
                "text": 'This sentence : "{sentence}" means in one word:"',
            },
            "preprocess": {"_target_": f"{package}.prompts.sentence.end_with_full_stop", "_partial_": True},
            "layer": -1,
            "pooling": {"_target_": f"{package}.pooling.last_token.last_token", "_partial_": True},
            **readout,
        },
    }


class Done(NamedTuple):
    """What a command left behind, as `subprocess.run` tells it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory, tiny_tokenizer):
    """Folder of a random float32 Llama of two layers, tokenizer beside it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_arguments(tmp_path_factory, tiny_base):
    """Command-line words that shrink the default run to seconds: 41 short rows with 3 or 4 candidates, 8 for dev."""
    from sempa_lightning.assets import local_path

    demo, folder = local_path("pkg://sempa_lightning/assets/demo"), tmp_path_factory.mktemp("data")
    rows = [line for line in (demo / "train.jsonl").read_text().splitlines() if _longest(line) < 90]
    pairs = (demo / "sts_dev.jsonl").read_text().splitlines()
    for name, lines in {"train": rows[:41], "dev": rows[41:49], "pairs": pairs[:16]}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return [
        f"model.path={tiny_base}",
        f"data.train.table.path={folder}/train.jsonl",
        f"data.dev.table.path={folder}/dev.jsonl",
        "data.max_rejected=null",
        "data.batch_size=8",
        f"callbacks.probe.suites.sts.dev.pairs.path={folder}/pairs.jsonl",
        f"eval.sts.demo.pairs.path={folder}/pairs.jsonl",
        f"eval.preference.demo.rows.table.path={folder}/dev.jsonl",
        "eval.generation.demo.max_texts=2",
        f"samples.pool.sources.0.path={folder}/pairs.jsonl",
        "samples.max_new_tokens=4",
        f"paths.data_dir={folder}",
        f"paths.cache_dir={folder}/cache",
        "trainer.val_check_interval=2",
    ]


def _longest(line):
    row = json.loads(line)
    return max(map(len, (row["anchor"], *row["chosen"], *row["rejected"])))


def call_main(main, *words):
    """Call a command's main with these words, in this process."""
    from sempa_lightning.entry import run_main

    stdout, stderr, handlers, code = io.StringIO(), io.StringIO(), logging.root.handlers[:], 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setenv("HYDRA_FULL_ERROR", "1")
        patch.setattr(sys, "argv", ["command", *map(str, words)])
        try:
            run_main(main)
        except SystemExit as stop:
            code = stop.code
    logging.root.handlers[:] = handlers  # Hydra's write to the stream of this call
    return Done(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="session")
def here():
    """Call `python -m sempa_lightning.train` with these words, in this process."""
    from sempa_lightning.train import main

    return partial(call_main, main)


@pytest.fixture(scope="session")
def evaluate_here():
    """Call `python -m sempa_lightning.evaluate` with these words, in this process."""
    from sempa_lightning.evaluate import main

    return partial(call_main, main)


@pytest.fixture(scope="session")
def synthesize_here():
    """Call `python -m sempa_lightning.synthesize` with these words, in this process."""
    from sempa_lightning.synthesize import main

    return partial(call_main, main)


@pytest.fixture(scope="session")
def mine_here():
    """Call `python -m sempa_lightning.mine` with these words, in this process."""
    from sempa_lightning.mine import main

    return partial(call_main, main)


@pytest.fixture(scope="session")
def embed_here():
    """Call `python -m sempa_lightning.embed` with these words, in this process."""
    from sempa_lightning.embed import main

    return partial(call_main, main)


@pytest.fixture(scope="session")
def train(here, tiny_arguments):
    """Train on the tiny scale into a folder, in this process; the run must end well."""
    from sempa_lightning.artifacts import RunDir

    def call(folder, *words):
        done = here(*tiny_arguments, f"hydra.run.dir={folder}", *words)
        assert done.returncode == 0, done.stderr
        return RunDir(folder)

    return call


@pytest.fixture(scope="session")
def unmeasured():
    """Command-line words for a run that is not evaluated before and after, but probed on the way."""
    return ["~eval.sts", "~eval.preference", "~eval.generation"]


class Steps(NamedTuple):
    """What each optimiser step of a run did.

    Attributes:
        losses: The logged loss of each step.
        gradient: Gradient of every trained parameter at the first step.
        weights: Every trained parameter after the last step.
    """

    losses: list[float]
    gradient: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]

    def assert_equal(self, other, tolerance):
        """Equal losses and first gradients within rounding, and final weights within `tolerance`."""
        assert len(self.losses) == len(other.losses)
        assert max(abs(one - two) for one, two in zip(self.losses, other.losses, strict=True)) < 1e-6
        assert self.gradient.keys() == other.gradient.keys()
        for name, gradient in self.gradient.items():
            # The first gradient of A is 0, for B is 0 at the start.
            assert gradient.norm() > 0 or "lora_A" in name
            assert (gradient - other.gradient[name]).norm() <= 1e-5 * gradient.norm()
            assert (self.weights[name] - other.weights[name]).abs().max() < tolerance


@pytest.fixture(scope="session")
def all_checkpoints():
    """Command-line words for a run that keeps its checkpoint of each validation as `step=<step>.ckpt`."""
    return [
        "+callbacks.all._target_=lightning.pytorch.callbacks.ModelCheckpoint",
        *("+callbacks.all.dirpath=${paths.run_dir}/checkpoints", "+callbacks.all.filename='{step}'"),
        "+callbacks.all.save_top_k=-1",
    ]


@pytest.fixture(scope="session")
def every_step(all_checkpoints):
    """Command-line words for a run whose steps `steps` can read: a checkpoint of each, and gradients as they come."""
    return [
        *("trainer.val_check_interval=1", *all_checkpoints, "~callbacks.probe", "~callbacks.best", "~callbacks.last"),
        *("max_grad_norm=null", "optimizer.lr=1e-3", "scheduler.warmup_ratio=0.0"),
    ]


@pytest.fixture(scope="session")
def steps():
    """Read what a run that was called with `every_step` did."""

    def read(run):
        lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        losses = [line["train/loss"] for line in lines if "train/loss" in line]
        first, last = (
            torch.load(run.checkpoints / f"step={step}.ckpt", weights_only=True) for step in (1, len(losses))
        )
        states = first["optimizer_states"][0]["state"]
        # AdamW's running mean starts at 0, so that after one step it is (1 - beta1) times the gradient.
        gradient = {name: states[place]["exp_avg"] / 0.1 for place, name in enumerate(first["state_dict"])}
        return Steps(losses, gradient, last["state_dict"])

    return read


@pytest.fixture(scope="session")
def command(tiny_arguments):
    """Train on the tiny scale into a folder, in a process of its own; `meanwhile` gets it and its run while it runs.

    `starter` are the words that Python gets before the module, such as those of torchrun.
    """
    from sempa_lightning.artifacts import RunDir

    def call(folder, *words, meanwhile=None, starter=()):
        own = [*tiny_arguments, f"hydra.run.dir={folder}", *words]
        call = [sys.executable, *starter, "-m", "sempa_lightning.train", *own]
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            if meanwhile is not None:
                meanwhile(process, RunDir(folder))
            stdout, stderr = process.communicate()
        return Done(process.returncode, stdout, stderr)

    return call


class Pair:
    """Two processes that train together on the CPU, and stay for the next run.

    Args:
        words: Of every new run.
    """

    def __init__(self, words):
        self.words = words
        self.processes = []

    def __call__(self, folder, *words, resume=False):
        """Train; it must end well in both. A run that is resumed takes its own words alone."""
        from sempa_lightning.artifacts import RunDir

        if not self.processes:
            self._start()
        shrunk = [] if resume else [*self.words, f"hydra.run.dir={folder}"]
        line = json.dumps([*shrunk, *words, "trainer.accelerator=cpu", "trainer.devices=2"])
        for process in self.processes:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        codes = (process.stdout.readline().strip() for process in self.processes)
        if not all(code == "0" for code in codes):
            self.end()  # the other one may wait for ever
            pytest.fail("a process has failed: see what it printed")
        return RunDir(folder)

    def end(self):
        for process in self.processes:
            process.kill()
            process.communicate()
        self.processes = []

    def _start(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        call = [sys.executable, str(Path(__file__).with_name("two_processes.py"))]
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "HYDRA_FULL_ERROR": "1"}
        for rank in range(2):
            own = os.environ | group | {"LOCAL_RANK": str(rank)}
            process = subprocess.Popen(call, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.processes.append(process)


@pytest.fixture(scope="session")
def pair(tiny_arguments):
    """Train on the tiny scale in two processes (see `Pair`)."""
    pair = Pair(tiny_arguments)
    yield pair
    pair.end()
