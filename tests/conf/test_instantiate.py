"""Every option is built by its config and trains for a step, on the smallest model and a few rows."""

import contextlib
import copy
import csv
import json
import lzma
import math
import os
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from sempa_lightning import train
from sempa_lightning.assets import local_path
from sempa_lightning.entry import instantiate

CONF = Path(train.__file__).parents[2] / "conf"
# Groups of other commands, whose options no training run has.
ELSEWHERE = {"transformation", "rows", "encoder"}
# A folder in experiment/ is a part of names.
OPTIONS = sorted(
    re.sub("^experiment/(.+)=", r"experiment=\1/", f"{path.parent.relative_to(CONF)}={path.stem}")
    for path in CONF.glob("*/**/*.yaml")
    if path.parent.name not in ELSEWHERE
)
MODELS = [path.stem for path in sorted(CONF.glob("model/*.yaml"))]
HUB_MODELS = [name for name in MODELS if OmegaConf.load(CONF / "model" / f"{name}.yaml").get("revision")]
DEMO = "pkg://sempa_lightning/assets/demo"

# Options that others build on, and those that no run can hold.
BASES = {"data=base", "data=one_table", "prompt=base", "trainer=base"}
NOT_HERE = {
    "eval=sts_hub": pytest.mark.skip(reason="reads the Hub"),
    "eval=harness": pytest.mark.skip(reason="reads the Hub"),
    "eval=mteb": pytest.mark.skip(reason="reads the Hub"),
    "trainer=slurm": pytest.mark.skip(reason="needs srun"),
    "trainer=gpu": pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
}

# Sweeps add nothing to the experiments that they sweep over but values, each of which is composed in test_compose.
SWEEPS = {option for option in OPTIONS if option.startswith("experiment=study/")}

# Options that only go together; the other options are spread over these runs.
BUNDLES = [
    ["model=scratch_llama", "data=wikipedia", "adapter=none", "reference=frozen", "objective=next_token"],
    ["model=tiny_random", "data=swift", "adapter=none", "reference=none", "objective=preference", "loss=simpo"],
    ["model=tiny_random", "data=trl", "adapter=saved", "reference=frozen", "objective=preference"],
    ["model=tiny_random", "data=demo", "adapter=lora", "reference=adapter_disabled", "callbacks=default"],
    ["model=tiny_random", "data=mined", "objective=sft", "data/negatives=none"],
    ["divergence=alpha", "loss=sigmoid"],
    ["divergence=forward_kl", "loss=hinge"],
    ["divergence=jensen_shannon", "loss=exo"],
]
# Models and data of experiments that do not ship with the package.
EXPERIMENTS = {
    "sempa_llama2": ("llama2", "nli"),
    "sempa_llama3": ("llama3", "nli"),
    "simcse": ("smollm2_135m", "nli"),
    "prompteol_cse": ("llama2", "nli"),
    "roth_llama3_2_1b": ("llama3_2_1b", "rows"),
    "roth_qwen3_0_6b": ("qwen3_0_6b", "rows"),
}
# Groups that a run has no use for, so that their options would not be tried in it.
IDLE = {
    "objective=next_token": {"loss", "divergence", "prompt", "callbacks", "data/negatives"},
    "objective=sft": {"loss", "divergence", "reference"},
    "objective=contrastive": {"loss", "divergence"},
    "reference=none": {"eval", "callbacks"},
    # What trains the readout cannot train every one.
    **{option: {"readout"} for option in ("objective=joint", "objective=contrastive", "model=nano")},
}
# The key of a suite that is not its file's name.
KEY = {"sts_quick": "sts"}
# Groups whose options change so much that each has a run of its own.
ALONE = {"experiment", "debug"}


def runs():
    """Lists of options, no two of a group in one list, that hold every option."""
    found = [list(bundle) for bundle in BUNDLES]
    tried = {option for run in found for option in run}
    for option in OPTIONS:
        if option in tried | BASES | SWEEPS | NOT_HERE.keys():
            continue
        group = option.partition("=")[0]
        free = (run for run in found if not {group, *ALONE} & _groups(run) and group not in _idle(run))
        if group in ALONE or (run := next(free, None)) is None:
            found.append([option])
        else:
            run.append(option)
    return [pytest.param(run, id=" ".join(run)) for run in found] + [
        pytest.param([option], id=option, marks=mark) for option, mark in NOT_HERE.items()
    ]


def _groups(run):
    return {option.partition("=")[0] for option in run}


def _idle(run):
    return set().union(*(IDLE.get(option, ()) for option in run))


def first_rows(number=8):
    lines = local_path(f"{DEMO}/train.jsonl").read_text().splitlines()[:number]
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """Real formats, a few records each: the tables of `data.path`, and a folder for `paths.data_dir`."""
    folder = tmp_path_factory.mktemp("data")
    rows = first_rows()
    with (folder / "triplets.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sent0", "sent1", "hard_neg"])
        table.writerows([row["anchor"], row["chosen"][0], row["rejected"][0]] for row in rows)
    write_lines(folder / "rows.jsonl", rows)
    trl = [{"prompt": row["anchor"], "chosen": row["chosen"][0], "rejected": row["rejected"][0]} for row in rows]
    write_lines(folder / "trl.jsonl", trl)
    nli = [
        {"premise": row["anchor"], "entailment": row["chosen"][0], "contradiction": row["rejected"][0]} for row in rows
    ]
    (folder / "nli").mkdir()
    write_lines(folder / "nli" / "nli_triplets.jsonl", nli)
    turns = [
        [{"role": "user", "content": row["anchor"]}, {"role": "assistant", "content": row["chosen"][0]}] for row in rows
    ]
    swift = [{"messages": m, "rejected_response": row["rejected"][0]} for m, row in zip(turns, rows, strict=True)]
    write_lines(folder / "swift.jsonl", swift)
    for part in "train", "dev":
        write_lines(folder / f"{part}.jsonl", rows)

    for year in range(12, 17):
        for subset in "news", "forum":
            inputs = folder / "sts" / f"STS{year}" / f"STS.input.{subset}.txt"
            inputs.parent.mkdir(parents=True, exist_ok=True)
            inputs.write_text("".join(f"A cat sat {n}.\tA cat was sitting {n * n}.\n" for n in range(16)))
            inputs.with_name(f"STS.gs.{subset}.txt").write_text("".join(f"{n / 4}\n" for n in range(16)))
    stsb = "".join(f"g\tf\ty\t{n}\t{n}\tA cat sat {n}.\tA dog ran {n}.\n" for n in range(16))
    (folder / "sts" / "STSBenchmark").mkdir()
    for part in "train", "dev", "test":
        (folder / "sts" / "STSBenchmark" / f"sts-{part}.csv").write_text(stsb)
    (folder / "sick").mkdir()
    for part in "train", "trial", "test_annotated":
        header = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
        pairs = "".join(f"{n}\tA cow ate {n}.\tA pig sat {n}.\t{n + 1}\tNEUTRAL\n" for n in range(16))
        (folder / "sick" / f"SICK_{part}.txt").write_text(header + pairs)
    write_labelled(folder)
    write_language_benchmarks(folder)
    (folder / "pretrain").mkdir()
    with lzma.open(folder / "pretrain" / "wikipedia.txt.xz", "wt") as file:
        file.write("\n\n".join(f"Town {n} has a long name. It lies on a river of that name." for n in range(80)))
    return folder


def write_language_benchmarks(folder):
    for name in "hellaswag", "lambada", "lm-bench/ARC-Easy", "lm-bench/openbookqa", "wikitext-2":
        (folder / name).mkdir(parents=True)
    document = "Rowing: A man sits in a boat. he\n1\nruns.\nrows.\nflies.\nreads.\n"
    (folder / "hellaswag" / "hellaswag_val_full.txt").write_text(document * 2)
    write_lines(folder / "lambada" / "lambada_test.jsonl", [{"text": f"It is a dog {n}"} for n in range(2)])
    ask = "Please choose the correct answer to the question: Who barks?\n\nAnswer1: dogs Answer2: cats"
    question = {"instruction": f"{ask}\n\nAnswer format: answer1/answer2", "answer": "answer1"}
    for name in "ARC-Easy", "openbookqa":
        (folder / "lm-bench" / name / "test.json").write_text(json.dumps([question] * 2))
    (folder / "wikitext-2" / "wiki.test.tokens").write_text(" = Cat = \n A cat . \n = Dog = \n A dog . \n")


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demonstration sets, cut to a few lines."""
    folder = tmp_path_factory.mktemp("demo")
    for path in local_path(DEMO).glob("*.jsonl"):
        (folder / path.name).write_text("".join(path.read_text().splitlines(keepends=True)[:16]))
    return folder


def write_labelled(folder):
    """The sets of labelled texts, 12 texts of each of two labels, of which five words differ."""
    texts = [
        (str(n % 2), f"{n} {'cold wet rain falls here' if n % 2 else 'sweet ripe pears grow there'}") for n in range(24)
    ]
    lines = "".join(f"{label} {text}\n" for label, text in texts)
    (folder / "sentence-classification").mkdir()
    for name in (
        *(f"{stem}.all" for stem in ("rt-polarity", "custrev", "subj", "mpqa", "TREC.train", "TREC.test")),
        *(f"stsa.binary.{part}" for part in ("train", "dev", "test")),
    ):
        (folder / "sentence-classification" / name).write_text(lines)
    (folder / "mrpc").mkdir()
    pairs = "".join(f"{label}\t1\t2\t{text}\tIt rains: {text}\n" for label, text in texts)
    for part in "train", "test":
        path = folder / "mrpc" / f"msr_paraphrase_{part}.txt"
        path.write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + pairs)
    (folder / "banking77").mkdir()
    for part in "train", "test":
        rows = "".join(f"{text},{label}\n" for label, text in texts)
        (folder / "banking77" / f"{part}.csv").write_text("text,category\n" + rows)
    (folder / "searchsnippets").mkdir()
    (folder / "searchsnippets" / "SearchSnippets.txt").write_text("".join(f"{text}\n" for _, text in texts))
    (folder / "searchsnippets" / "SearchSnippets_gnd.txt").write_text("".join(f"{label}\n" for label, _ in texts))


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="session")
def special_tokenizer(tiny_tokenizer):
    """A tokenizer with the special tokens of Llama 2 and of Llama 3, each one token, and those of `name` in use."""

    def build(name):
        tokenizer = copy.deepcopy(tiny_tokenizer)
        ends = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        tokenizer.add_special_tokens({"additional_special_tokens": ends})
        bos, eos = ("<s>", "</s>") if name == "llama2" else ("<|begin_of_text|>", "<|end_of_text|>")
        tokenizer.add_special_tokens({"bos_token": bos, "eos_token": eos, "pad_token": eos})
        return tokenizer

    return build


@pytest.fixture
def hub_model(tmp_path, special_tokenizer):
    """Stands in for a model of the Hub: a folder with a tiny Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def save(name):
        tokenizer = special_tokenizer(name)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=1024,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        folder = tmp_path / name
        with torch.random.fork_rng():
            LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def adapter(compose, tmp_path):
    """Save a fresh adapter of the tiny random model."""

    def save():
        cfg = compose("train", "model=tiny_random")
        policy = instantiate(cfg.adapter).attach(instantiate(cfg.model).model)
        policy.save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"

    return save


@pytest.fixture
def overrides(data_folder, hub_model, adapter):
    """What a list of options needs beside itself to run here: local files, a model that is at hand, few rows."""

    def complete(options):
        needs = {
            "data=nli": lambda: [f"data.path={data_folder}/triplets.csv"],
            "data=simcse": lambda: [f"data.path={data_folder}/triplets.csv"],
            "data=rows": lambda: [f"data.path={data_folder}/rows.jsonl"],
            "data=mined": lambda: [f"data.path={data_folder}"],
            "data=trl": lambda: [f"data.path={data_folder}/trl.jsonl"],
            "data=swift": lambda: [f"data.path={data_folder}/swift.jsonl"],
            "data=wikipedia": lambda: ["data.block_size=16", "data.batch_size=2", "data.max_documents=80"],
            "model=nano": lambda: ["data.max_rows=2"],
            "adapter=saved": lambda: [f"adapter.path={adapter()}"],
            "readout=text": lambda: ["readout.template.text='{sentence}:'"],
            "readout=contrastive_prompting": lambda: ["readout.steering.layer=1"],
            "callbacks=kl_budget": lambda: ["callbacks.probe.suites.generation.dev.skip_texts=0"],
            "callbacks=kl_stop": lambda: ["callbacks.probe.suites.generation.dev.skip_texts=0"],
            "trainer=ddp": lambda: ["trainer.accelerator=cpu", "trainer.devices=1"],
            "trainer=fsdp": lambda: ["trainer.accelerator=cpu", "trainer.devices=1"],
            "model=scratch_llama": lambda: [
                "model.tokenizer.vocab_size=300",
                "model.hidden_size=16",
                "model.num_layers=2",
            ],
            "experiment=nano_pretrain": lambda: [
                *needs["data=wikipedia"](),
                *needs["model=scratch_llama"](),
                "compile=false",
            ],
        }
        needs["model=causal_lm"] = lambda: [f"model.path={hub_model('any')}"]
        for name in HUB_MODELS:
            needs[f"model={name}"] = lambda name=name: [f"model.path={hub_model(name)}"]
        for name, (model, data) in EXPERIMENTS.items():
            needs[f"experiment={name}"] = lambda model=model, data=data: [
                *needs[f"model={model}"](),
                *needs[f"data={data}"](),
                *needs["trainer=ddp"](),
            ]
        arms = [option for option in OPTIONS if option.startswith("experiment=tradeoff/")]
        needs |= dict.fromkeys(arms, lambda: [*needs["model=causal_lm"](), "data.train.dev=0.4"])
        mined = ("experiment=tradeoff/sempa_mined", "experiment=tradeoff/sempa_mined_beta")
        needs |= dict.fromkeys(mined, lambda: [*needs["model=causal_lm"](), *needs["data=mined"]()])
        extra = [override for option in options for override in needs.get(option, list)()]
        if any(override.startswith("data.path=") for override in extra) and not any(
            "mined" in option for option in options
        ):
            extra += ["data.train.dev=0.4"]
        if not any(option.startswith(("model=", "experiment=")) for option in options):
            extra += ["model=tiny_random"]
        if not _groups(options) & {"eval", "debug"}:
            extra += ["eval=[preference]" if "reference=none" in options else "eval=[generation]"]
        return [*options, *extra, "trainer.max_steps=1", "trainer.val_check_interval=1", "samples.max_new_tokens=2"]

    return complete


@pytest.fixture
def clean_process(monkeypatch):
    """Undo what a run does to the process: variables, process group, W&B."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    with contextlib.suppress(ImportError):
        import wandb

        if wandb.run is not None:
            wandb.finish()


# Under ddp Lightning cannot know that these values are summed over processes already, or alike in all of them.
@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.usefixtures("clean_process")
@pytest.mark.parametrize("options", runs())
def test_one_step(compose, overrides, demo, data_folder, tmp_path, options):
    cfg = OmegaConf.to_container(compose("train", *overrides(options)))
    cfg["paths"] = {"run_dir": str(tmp_path / "run"), "data_dir": str(data_folder), "cache_dir": str(tmp_path)}
    text = OmegaConf.to_yaml(OmegaConf.create(cfg), resolve=True).replace(DEMO, str(demo))
    train.train(OmegaConf.create(text), resume=False)

    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["train/steps"] == 1
    losses = [
        value
        for line in (run / "metrics.jsonl").read_text().splitlines()
        for name, value in json.loads(line).items()
        if name in ("train/loss", "val/loss")
    ]
    assert len(losses) == (0 if "debug=fast_dev_run" in options else 2)
    assert all(map(math.isfinite, losses))
    for suite in (option.removeprefix("eval=") for option in options if option.startswith("eval=")):
        assert any(key.startswith(f"after/{KEY.get(suite, suite)}/") for key in summary)
    checkpoints = list((run / "checkpoints").glob("*.ckpt"))
    assert len(checkpoints) == (0 if {"debug=fast_dev_run", "callbacks=none"} & set(options) else 2)
    assert any(run.glob("tensorboard/events.*")) == ("logger=tensorboard" in options)
    assert any(run.glob("wandb/offline-run-*")) == ("logger=wandb" in options)
    assert (run / "fit-profile.txt").exists() == ("debug=profile" in options)


def test_slurm_tells_processes_their_places(compose, monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 0)  # is put back afterwards
    told = {"NTASKS": 16, "NTASKS_PER_NODE": 8, "PROCID": 11, "LOCALID": 3, "NODEID": 1, "JOB_ID": 7, "NODELIST": "a,b"}
    for name, value in told.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    trainer = instantiate(compose("train", "trainer=slurm", "trainer.accelerator=cpu").trainer)
    assert (trainer.num_nodes, trainer.world_size, trainer.global_rank, trainer.local_rank) == (2, 16, 11, 3)


def test_every_option_is_in_a_run():
    tried = {option for run in runs() for option in run.values[0]}
    assert tried | BASES | SWEEPS == set(OPTIONS)
    assert set(OPTIONS) >= BASES
    assert len(HUB_MODELS) == 7


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.startswith(("eval=", "readout="))])
def test_suites_and_readouts_are_built_for_an_evaluation(compose, option):
    from sempa_lightning.evaluation.task import Task

    group, _, name = option.partition("=")
    open_text = ["readout.template.text='{sentence}:'"] if option == "readout=text" else []
    cfg = compose("evaluate", option, *open_text)
    built = instantiate(cfg[group])
    assert built is not None
    if group == "eval":
        assert built[KEY.get(name, name)]
        assert all(isinstance(task, Task) for task in built[KEY.get(name, name)].values())


SYNTHESIS = sorted(f"{path.parent.name}={path.stem}" for group in ELSEWHERE for path in CONF.glob(f"{group}/*.yaml"))


@pytest.mark.parametrize("option", SYNTHESIS)
def test_parts_of_a_synthesis_are_built(compose, tmp_path, option):
    """What a whole synthesis does with them: tests/integration/test_synthesize.py."""
    from sempa_lightning.prompts.template import PromptTemplate

    cfg = OmegaConf.to_container(compose("synthesize", "model=tiny_random", "device=cpu", option))
    group, _, name = option.partition("=")
    if group == "transformation" and name == "base":
        cfg["transformation"] = {"one": cfg["transformation"] | {"text": "{sentence}"}}
    if group == "encoder":
        model, tokenizer = instantiate(compose("synthesize", "model=tiny_random").model)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        node = cfg["encoder"]["model"] if name == "causal_lm" else cfg["encoder"]
        node["path"] = str(tmp_path)
    cfg = OmegaConf.create(cfg)
    built = instantiate(cfg[group])
    if group == "transformation":
        assert built
        assert all(isinstance(prompt, PromptTemplate) for prompt in built.values())
    elif group == "encoder":
        assert built.encode(["A cat.", "A dog."]).shape == (2, 32)
    else:
        assert built([]) == []


# The strings on which the paper's runs were trained: ms-swift's templates on the base models, system turn included.
ASKED = 'Keep the same meaning of this sentence: "A dog runs.", while making some changes.'
SEEN = {
    "llama2": (
        f"<s>[INST] <<SYS>>\nYou are a helpful assistant\n<</SYS>>\n\n{ASKED} [/INST]",
        "Dogs run.</s>",
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{ASKED}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "Dogs run.<|eot_id|>",
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_the_paper_s_backbones_read_what_they_read_in_its_runs(compose, special_tokenizer, name):
    """Token by token, from the experiment's config: one begin token, and the end of the turn is scored."""
    from collections import Counter

    from sempa_lightning.data.rows import Row
    from sempa_lightning.data.tokenize import RowTokenizer

    cfg = compose("train", f"experiment=sempa_{name}")
    tokenizer = special_tokenizer(name)
    tokenizer.chat_template = cfg.model.chat_template
    template = instantiate(cfg.prompt)
    tokenize = RowTokenizer(tokenizer, template, cfg.data.max_length, cfg.data.unfit)
    (row,) = tokenize([Row("A dog runs.", ("Dogs run.",), ("A cat.",))], Counter())
    prompt, completion = SEEN[name]
    assert tokenizer.decode(row.prompt_ids) == prompt
    assert tokenizer.decode(row.completion_ids[0]) == completion
    assert row.prompt_ids.count(tokenizer.bos_token_id) == 1
    assert template.prompt(tokenizer, "A dog runs.") == prompt
    assert template.dialogue(tokenizer, "A dog runs.", "Dogs run.") == prompt + completion
