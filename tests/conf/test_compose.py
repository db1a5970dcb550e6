"""Every config file composes, every target takes the keys it is given, and no key is there for nobody."""

import ast
import copy
import importlib
import inspect
import re
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from sempa_lightning import train
from sempa_lightning.config_check import check_config
from sempa_lightning.errors import UserError

CONF = Path(train.__file__).parents[2] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
ROOTS = sorted(path.stem for path in CONF.glob("*.yaml"))
# A folder in experiment/ is a part of names.
OPTIONS = sorted(
    re.sub("^experiment/(.+)=", r"experiment=\1/", f"{path.parent.relative_to(CONF)}={path.stem}")
    for path in CONF.glob("*/**/*.yaml")
)

# The whole surface: a key more or less is a decision.
TOP_LEVEL_KEYS = {
    "train": {
        "adapter", "callbacks", "compile", "data", "divergence", "eval", "logger", "loss", "max_grad_norm", "model",
        "monitor", "monitor_mode", "objective", "optimizer", "paths", "preflight", "prompt", "readout", "reference",
        "resume", "run_name", "samples", "scheduler", "scoring", "seed", "sweep", "trainer", "trust",
    },
    "evaluate": {
        "checkpoint", "device", "eval", "follow", "keep_layers", "limit", "model", "paths", "patience_seconds",
        "poll_seconds", "processes", "prompt", "readout", "resume", "run", "run_name", "scoring", "seed", "subjects",
        "trust",
    },
    "embed": {
        "batch_size", "checkpoint", "column", "corpus", "device", "dtype", "keep_text", "model", "part_rows", "paths",
        "processes", "prompt", "readout", "resume", "revision", "run", "run_name", "scoring", "seed", "shard", "split",
        "trust",
    },
    "export": {"formats", "model", "out", "push", "run", "trust"},
    "synthesize": {
        "adapter", "batch_size", "chat", "column", "device", "encoder", "filters", "limit", "model",
        "outputs_per_prompt", "part_size", "paths", "prompt", "prompts_per_sentence", "readout", "resume", "revision",
        "rows", "run_name", "sampling", "seed", "sentences", "split", "transformation", "trust",
    },
    "mine": {
        "data", "device", "given", "max_similarity", "min_similarity", "model", "number", "of_positive", "paths",
        "prompt", "readout", "run", "run_name", "scoring", "seed", "trust",
    },
}  # fmt: skip
# What some models and data bring for training, which other commands do not read.
BROUGHT = {"data", "objective", "optimizer", "trainer"}
# What a command takes apart instead of building it.
TAKEN_APART = {"mine": {"data"}}
PATHS = {"run_dir", "data_dir", "cache_dir"}
# What a file leaves open for others to fill.
OPEN = {
    "data=base": ["data.dev={_target_: builtins.list}"],
    "data=one_table": ["data.train.source={_target_: builtins.list}"],
    "data=mined": ["data.path=some/folder"],
    "model=scratch_llama": ["data=wikipedia"],
    "readout=text": ["readout.template.text='{sentence}:'"],
    "model=causal_lm": ["model.path=some/model"],
}

# Means over several prompts, which the default objective of training cannot take.
AVERAGED = {"readout=ck", "readout=meta_eol"}

# SemPA's settings: its paper, section 4 and appendices; its code; defaults of ms-swift 3.10.1 where both are silent.
PAPER = {
    "prompt.text": 'Keep the same meaning of this sentence: "{sentence}", while making some changes.',
    "prompt.chat": True,
    "prompt.system": "You are a helpful assistant",
    "readout.template.text": 'This sentence : "{sentence}" means in one word:"',
    "readout.template.chat": None,
    "readout.preprocess.path": "sempa_lightning.prompts.sentence.end_with_full_stop",
    "readout.layer": -1,
    "readout.pooling._target_": "sempa_lightning.pooling.last_token.last_token",
    "data.train.source.table.hub.name": "princeton-nlp/datasets-for-simcse",
    "data.train.source.table.hub.file": "nli_for_simcse.csv",
    "data.train.source.anchor": "sent0",
    "data.train.source.chosen": "sent1",
    "data.train.source.rejected": "hard_neg",
    "data.group": False,
    "data.max_rows": None,
    "data.max_rejected": None,
    "data.max_length": 1024,
    "data.batch_size": 256,
    "data.micro_batch_tokens": 2048,
    "data.layout._target_": "sempa_lightning.scoring.packed.Packed",
    "data.seed": 42,
    "seed": 42,
    "adapter._target_": "sempa_lightning.models.adapters.Lora",
    "adapter.r": 8,
    "adapter.alpha": 32,
    "adapter.dropout": 0.0,
    "adapter.target_modules": "all-linear",
    "objective._target_": "sempa_lightning.training.objectives.preference.Preference",
    "objective.loss._target_": "sempa_lightning.losses.plackett_luce.PlackettLuce",
    "objective.loss.beta": 0.1,
    "objective.loss.ranking": "top",
    "objective.nll_weight": 0.0,
    "objective.kl_weight": 0.0,
    "reference._target_": "sempa_lightning.scoring.reference.Cached",
    "reference.live._target_": "sempa_lightning.scoring.reference.AdapterDisabled",
    "optimizer._target_": "torch.optim.AdamW",
    "optimizer.lr": 1e-4,
    "optimizer.weight_decay": 0.1,
    "optimizer.betas": [0.9, 0.95],
    "scheduler._target_": "sempa_lightning.training.optimizers.cosine_with_warmup",
    "scheduler.warmup_ratio": 0.05,
    "max_grad_norm": 1.0,
    "trainer.max_epochs": 1,
    "trainer.max_steps": -1,
    "trainer.precision": "bf16-mixed",
    "trainer.strategy": "ddp",
    "trainer.val_check_interval": 78,
    "monitor": "eval/sts/dev/spearman",
    "callbacks.probe.suites.sts.dev.pairs._target_": "sempa_lightning.data.scored_pairs.StsBenchmarkFile",
    "callbacks.probe.suites.sts.dev.pairs.path": "data/sts/STSBenchmark/sts-dev.csv",
}
BACKBONES = {"sempa_llama2": "meta-llama/Llama-2-7b-hf", "sempa_llama3": "meta-llama/Meta-Llama-3-8B"}


def groups(root):
    """The groups that a root's defaults name."""
    defaults = OmegaConf.to_container(OmegaConf.load(CONF / f"{root}.yaml")).get("defaults", [])
    keys = {key for entry in defaults if isinstance(entry, dict) for key in entry}
    return {key for key in keys if not key.startswith("override")} - (BROUGHT - TOP_LEVEL_KEYS[root])


def cases():
    """Each option under each root that has its group; what belongs to the training of `nano` is for training alone."""
    for root in ROOTS:
        for option in OPTIONS:
            if option.partition("=")[0] in groups(root) and (
                root == "train" or option not in ("model=scratch_llama", "data=wikipedia")
            ):
                yield root, option


def composed(compose, root, *words):
    """The config of a root without what a model brings for training, where nothing is trained."""
    cfg = copy.deepcopy(compose(root, *words))
    OmegaConf.set_struct(cfg, False)
    for key in BROUGHT - TOP_LEVEL_KEYS[root]:
        cfg.pop(key, None)
    return cfg


def nodes(value, place=""):
    """Every mapping with a `_target_`, under its dotted place."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict) and "_target_" in value:
        yield place, value
    for key, child in children:
        yield from nodes(child, f"{place}.{key}".lstrip("."))


def members(cfg):
    """The places that must hold an object: what a set of objects consists of."""
    probe = cfg.get("callbacks", {}).get("probe", {})
    sets = {"callbacks": cfg.get("callbacks", {}), "logger": cfg.get("logger", {})}
    sets |= {f"eval.{suite}": tasks for suite, tasks in cfg.get("eval", {}).items()}
    sets |= {f"callbacks.probe.suites.{suite}": tasks for suite, tasks in probe.get("suites", {}).items()}
    return {f"{place}.{name}": value for place, content in sets.items() for name, value in content.items()}


def entry_point(root):
    return ast.parse(Path(train.__file__).with_name(f"{root}.py").read_text())


def handed_over(root):
    """What the entry point gives each object beside its config: `{"reference": {"policy"}, …}`."""
    calls = [node for node in ast.walk(entry_point(root)) if isinstance(node, ast.Call) and node.args]
    named = [call for call in calls if getattr(call.func, "id", None) == "instantiate"]
    return {call.args[0].attr: {keyword.arg for keyword in call.keywords} for call in named}


def misfit(node, shared):
    """Why the target cannot be called with the node's keys and the shared ones, or None."""
    try:
        signature = inspect.signature(get_object(node["_target_"]))
        bind = signature.bind_partial if node.get("_partial_") else signature.bind
        bind(**dict.fromkeys([*(key for key in node if not re.fullmatch("_[a-z]+_", key)), *shared]))
    except (ImportError, ValueError, TypeError) as error:
        return str(error)
    return None


def flaws(root, cfg):
    """Everything that is wrong with a composed config, by place."""
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    shared = handed_over(root)
    found = {place: misfit(node, shared.get(place, ())) for place, node in nodes(plain)}
    found = {place: reason for place, reason in found.items() if place not in TAKEN_APART.get(root, ())}
    found |= {place: "no _target_" for place, value in members(plain).items() if "_target_" not in value}
    found |= dict.fromkeys(plain.keys() - TOP_LEVEL_KEYS[root], "unknown key")
    found |= dict.fromkeys(plain.get("paths", {}).keys() - PATHS, "unknown path")
    return {place: reason for place, reason in found.items() if reason}


def test_the_directory_was_found():
    assert sorted(TOP_LEVEL_KEYS) == ROOTS
    assert len(OPTIONS) > 50
    chosen_by_sweep = {"hydra/launcher", "hydra/sweeper"}
    assert {option.partition("=")[0] for option in OPTIONS} == set.union(*map(groups, ROOTS)) | chosen_by_sweep


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_composes(compose, root):
    cfg = compose(root)
    assert set(cfg) == TOP_LEVEL_KEYS[root]
    assert flaws(root, cfg) == {}


@pytest.mark.parametrize(("root", "option"), list(cases()))
def test_every_option_composes_and_its_targets_take_its_keys(compose, root, option):
    cfg = composed(compose, root, option, *OPEN.get(option, ()))
    assert set(cfg) == TOP_LEVEL_KEYS[root]
    assert flaws(root, cfg) == {}
    if root == "train" and option in AVERAGED:
        with pytest.raises(UserError, match=r"^data\.readout\._target_: "):
            check_values(root, cfg)
    elif root in ("train", "evaluate") and not OmegaConf.missing_keys(cfg):
        check_values(root, cfg)


def check_values(root, cfg):
    """Check a config as its command does before it builds anything."""
    command = importlib.import_module(f"sempa_lightning.{root}")
    fields = command.fields()
    own = {key: value for key, value in OmegaConf.to_container(cfg, resolve=True).items() if key in fields}
    check_config(own, fields, train.PASSED if root == "train" else None)


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("+adapter.rank=8", "adapter"),
        ("~adapter.r", "adapter"),
        ("adapter._target_=sempa_lightning.models.adapters.Lorra", "adapter"),
        ("adapter._target_=sempa_lightning.models.adaptors.Lora", "adapter"),
        ("+reference.policy_=null", "reference"),
        ("+optimizer.learning_rate=1", "optimizer"),
        ("+readout.pooling.dim=1", "readout.pooling"),
        ("+callbacks.probe.suites.sts.dev.pairs.file=x", "callbacks.probe.suites.sts.dev.pairs"),
        ("+callbacks.probe.suites.sts.dve.pairs={}", "callbacks.probe.suites.sts.dve"),
        ("+callbacks.prob.suites={}", "callbacks.prob"),
        ("+eval.sts.demos.pairs={}", "eval.sts.demos"),
        ("+logger.json.path=x", "logger.json"),
        ("+paths.data=x", "data"),
        ("+optimiser.lr=1", "optimiser"),
    ],
)
def test_a_typo_in_a_file_would_be_found(compose, override, place):
    assert list(flaws("train", compose("train", "objective=preference", override))) == [place]


def unread(root, keys):
    """Keys that neither the entry point reads nor another key refers to."""
    attributes = [node for node in ast.walk(entry_point(root)) if isinstance(node, ast.Attribute)]
    read = {node.attr for node in attributes if getattr(node.value, "id", None) == "cfg"}
    for path in FILES:
        read |= set(re.findall(r"\$\{(\w+)[.}]", path.read_text()))
    return set(keys) - read


@pytest.mark.parametrize("root", ROOTS)
def test_every_top_level_key_is_read(root):
    assert unread(root, TOP_LEVEL_KEYS[root] | {"nobody"}) == {"nobody"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_the_first_line_says_what_the_file_is_for(path):
    first, second, *_ = path.read_text().splitlines()
    comment = second if first == "# @package _global_" else first
    assert re.fullmatch(r"# [^@ ].{15,}", comment)


COMMANDS = [f"train {option}" for option in OPTIONS if option.startswith(("experiment=", "debug="))]


@pytest.mark.parametrize("choice", [*COMMANDS, *ROOTS])
def test_commands_in_comments_are_whole(compose, choice):
    """Roots, experiments and debug settings begin with the command that runs them."""
    root, _, option = choice.partition(" ")
    path = CONF / f"{option.replace('=', '/') or root}.yaml"
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_" or not option
    module, *overrides = re.match(r"# python -m sempa_lightning\.([^:]+)", lines[bool(option)]).group(1).split()
    assert module == root
    assert not option or option in overrides
    assert (overrides[:1] == ["-m"]) == ("sweeper" in OmegaConf.load(path).get("hydra", {}))
    compose(root, *(override for override in overrides if "<" not in override and override != "-m"))


def sweeps():
    """Every value of every axis of an experiment that is a sweep."""
    for option in OPTIONS:
        if option.startswith("experiment="):
            hydra = OmegaConf.load(CONF / f"{option.replace('=', '/', 1)}.yaml").get("hydra", {})
            for key, values in hydra.get("sweeper", {}).get("params", {}).items():
                yield from ((option, f"{key}={value}") for value in str(values).split(","))


def test_sweeps_were_found():
    studies = {option for option in OPTIONS if option.startswith("experiment=study/")}
    assert {option for option, _ in sweeps()} == studies
    assert ("experiment=study/seeds", "seed=43") in sweeps()


@pytest.mark.parametrize(("option", "value"), list(sweeps()))
def test_each_value_of_a_sweep_composes(compose, option, value):
    assert flaws("train", compose("train", option, value)) == {}


@pytest.mark.parametrize("name", BACKBONES)
def test_the_paper_s_experiments_have_the_paper_s_values(compose, monkeypatch, name):
    monkeypatch.delenv("SEMPA_DATA_DIR", raising=False)
    cfg = compose("train", f"experiment={name}")
    expected = {**PAPER, "model.path": BACKBONES[name]}
    found = {key: OmegaConf.select(cfg, key) for key in expected}
    assert {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in found.items()} == expected


def test_hub_models_and_data_are_pinned_to_a_commit(compose):
    """What a preset means must not change under one's feet."""
    pinned = 0
    for option in OPTIONS:
        group = option.partition("=")[0]
        if group in {"model", "data", "eval"}:
            node = compose("train", option, *OPEN.get(option, ()))[group]
            for place, content in nodes(OmegaConf.to_container(node, resolve=True)):
                name = content["_target_"].rpartition(".")[2]
                on_hub = name.startswith("Hub") or (name == "load_causal_lm" and "://" not in content["path"])
                on_hub &= option != "model=causal_lm"  # names none
                if on_hub:
                    assert re.fullmatch("[0-9a-f]{40}", content.get("revision", "")), (option, place)
                    pinned += 1
    assert pinned >= 8


def test_each_suite_stands_under_its_own_name(compose):
    """So that eval=[a,b] adds and never overwrites; `sts_quick` is part of `sts`."""
    suites = [path.stem for path in CONF.glob("eval/*.yaml") if path.stem != "sts_quick"]
    for suite in suites:
        assert list(compose("train", f"eval={suite}").eval) == [suite]
    assert set(compose("train", f"eval=[{','.join(suites)}]").eval) == set(suites)
    assert compose("train", "eval=[]").eval == {}
    quick, full = compose("train", "eval=sts_quick").eval, compose("train", "eval=[sts_quick,sts]").eval
    assert list(quick) == ["sts"]
    assert quick.sts.items() < full.sts.items()


def test_the_choice_of_a_prompt_wins_over_that_of_the_data(compose):
    assert compose("train", "data=trl").prompt.text == "{sentence}"
    assert compose("train", "data=trl", "prompt=generate").prompt.text.startswith("Generate ")
