"""A saved config builds components of its groups and nothing else."""

import sys
from pathlib import Path

import pytest
import yaml

from sempa_lightning import trust
from sempa_lightning.errors import UserError
from sempa_lightning.trust import COMPONENTS, check_saved, consent

CONF = Path(trust.__file__).parents[2] / "conf"
FILES = sorted(path for path in CONF.glob("*/**/*.yaml") if path.relative_to(CONF).parts[0] != "hydra")

# Targets that run code, or read or write files, each in a group and a place where Hydra would build it.
DANGEROUS = [
    ("readout", {"preprocess": {"_target_": "pandas.read_pickle", "filepath_or_buffer": "x"}}),
    ("readout", {"template": {"_target_": "torch.load", "f": "x", "weights_only": False}}),
    ("prompt", {"_target_": "builtins.eval", "_args_": ["1"]}),
    ("prompt", {"_target_": "builtins.exec", "_args_": ["1"]}),
    ("model", {"_target_": "os.system", "_args_": ["true"]}),
    ("model", {"tokenizer": {"_target_": "subprocess.run", "_args_": ["true"]}}),
    ("adapter", {"_target_": "shutil.rmtree", "_args_": ["x"]}),
    ("scoring", {"_target_": "pathlib.Path.write_text", "_args_": ["x", "y"]}),
    ("eval", {"sts": {"demo": {"pairs": {"_target_": "importlib.import_module", "name": "antigravity"}}}}),
    ("data", {"train": {"_target_": "sempa_lightning.files.write_text", "path": "x", "content": "y"}}),
    ("readout", {"preprocess": {"_target_": "hydra.utils.get_method", "path": "os.system"}}),
    ("readout", {"preprocess": {"_target_": "hydra.utils.get_object", "path": "builtins.exec"}}),
    ("readout", {"preprocess": {"_target_": "hydra.utils.get_method", "_args_": ["os.system"]}}),
    ("callbacks", {"x": {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.getcwd"}}}),
    ("logger", {"x": {"_target_": "functools.partial", "_args_": ["print"]}}),
    ("reference", {"_target_": "torch.hub.load", "repo_or_dir": "x"}),
    ("objective", {"loss": {"_target_": "numpy.load", "file": "x", "allow_pickle": True}}),
    ("optimizer", {"_target_": "joblib.load", "_partial_": True, "filename": "x"}),
    ("scheduler", {"_target_": "urllib.request.urlretrieve", "_partial_": True}),
    ("prompt", {"text": {"_target_": "sempa_lightning.entry.os.system", "_args_": ["true"]}}),
    ("model", {"_target_": "sempa_lightning.models.causal_lm.torch.load", "_args_": ["x"]}),
    ("model", {"_target_": "sempa_lightning.models.sentence_transformer.save_sentence_transformer"}),
    ("trainer", {"strategy": {"_target_": "webbrowser.open", "url": "x"}}),
    ("trainer", {"plugins": [{"_target_": "lightning.fabric.utilities.cloud_io._load"}]}),
    ("trainer", {"_target_": "lightning.Trainer.save_checkpoint", "_args_": ["x"]}),
    ("trainer", {"strategy": {"_target_": "lightning.fabric.strategies.model_parallel._load_raw_module_state"}}),
    ("logger", {"x": {"_target_": "lightning.pytorch.loggers.WandbLogger", "settings": {"base_url": "x"}}}),
    ("eval", {"x": {"y": {"_target_": "sempa_lightning.evaluation.workers.Workers", "commands": [["true"]]}}}),
    ("rows", {"_target_": "sempa_lightning.synthesis.filters.empty"}),
    ("seed", {"_target_": "sempa_lightning.prompts.template.PromptTemplate"}),
]


@pytest.mark.parametrize(("group", "node"), DANGEROUS)
def test_what_is_no_component_of_its_group_is_refused_by_key_and_name(group, node):
    with pytest.raises(UserError, match=rf"^{group}\..*run/config\.yaml names .*trust=\[") as refused:
        check_saved({group: node}, "run/config.yaml", [], [])
    assert _deepest_name(node) in str(refused.value)
    assert "antigravity" not in sys.modules


def _deepest_name(node):
    """The name in a node that would do the harm."""
    node = node[0] if isinstance(node, list) else node
    inner = [value for value in node.values() if isinstance(value, (dict, list)) and "_args_" not in node]
    if "_target_" not in node:
        return _deepest_name(inner[0])
    lookup = node["_target_"].startswith("hydra.utils.get_") and "path" in node
    return node["path"] if lookup else node["_target_"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_each_shipped_config_may_be_saved(path):
    text = path.read_text()
    content = yaml.safe_load(text) or {}
    content.pop("defaults", None)
    if "@package _global_" in text:
        content.pop("hydra", None)
    else:
        content = {path.relative_to(CONF).parts[0]: content}
    assert consent({"paths": {"run_dir": "${paths.run_dir}"}, **content}, []) == []


def test_shipped_configs_need_every_group_of_the_table():
    groups = {path.relative_to(CONF).parts[0] for path in FILES} | {"filters", "sampling"}  # in synthesize.yaml
    assert groups >= COMPONENTS.keys()


def test_components_of_libraries_that_no_shipped_config_names():
    check_saved(
        {
            "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1},
            "scheduler": {"_target_": "torch.optim.lr_scheduler.LambdaLR", "_partial_": True},
            "callbacks": {"mean": {"_target_": "lightning.pytorch.callbacks.StochasticWeightAveraging"}},
            "trainer": {"strategy": {"_target_": "lightning.pytorch.strategies.DDPStrategy"}},
            # A name that moved: it is looked up where old runs name it.
            "readout": {"_target_": "sempa_lightning.models.embedder.Readout"},
        },
        "config.yaml",
        [],
        [],
    )


@pytest.fixture
def my_modules(tmp_path, monkeypatch):
    """Modules of a user: one defines, the other imports from it and from the system."""
    (tmp_path / "my_parts.py").write_text("class Part:\n    @classmethod\n    def made(cls): ...\n")
    (tmp_path / "my_module.py").write_text("import os\nfrom my_parts import Part\ndef pool(states): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("my_parts", "my_module"):
        sys.modules.pop(name, None)


def test_a_module_that_the_user_names_is_trusted_in_any_group_but_not_what_it_imports(my_modules):
    pool = {"readout": {"pooling": {"_target_": "my_module.pool", "_partial_": True}}}
    with pytest.raises(UserError, match=r"^readout\.pooling\._target_: .*my_module\.pool.*trust=\[my_module\]"):
        check_saved(pool, "config.yaml", [], [])
    assert "my_module" not in sys.modules
    check_saved(pool | {"logger": {"_target_": "my_parts.Part.made"}}, "config.yaml", ["my_module", "my_parts"], [])
    with pytest.raises(UserError, match=r"my_module\.os\.system.*trust=\[posix\]"):
        check_saved({"logger": {"_target_": "my_module.os.system"}}, "config.yaml", ["my_module"], [])
    with pytest.raises(UserError, match=r"my_module\.Part.*trust=\[my_parts\]"):
        check_saved({"logger": {"_target_": "my_module.Part"}}, "config.yaml", ["my_module"], [])
    with pytest.raises(UserError, match=r"^loss\._target_: cannot find my_module\.Loss"):
        check_saved({"loss": {"_target_": "my_module.Loss"}}, "config.yaml", ["my_module"], [])


def test_processes_of_this_command_are_given_what_its_own_config_needs(my_modules):
    config = {
        "model": {"path": "pkg://my_package/model", "trust_remote_code": True},
        "eval": {"x": {"y": {"_target_": "my_module.Part", "task": "tasks/mine.yaml"}}},
    }
    words = consent(config, ["other"])
    assert words == [
        "trust=['other','my_module','my_package','tasks/mine.yaml','my_parts']",
        "++model.trust_remote_code=true",
    ]
    names = yaml.safe_load(words[0].partition("=")[2])
    check_saved(config, "config.yaml", names, ["model.trust_remote_code"])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model": {"path": "${oc.env:HF_TOKEN}"}}, r"^model\.path: .*\$\{oc\.env:HF_TOKEN\}.*trust=\[HF_TOKEN\]"),
        ({"model": {"path": "me/${oc.env:HF_TOKEN}"}}, r"^model\.path: .*me/\$\{oc\.env:HF_TOKEN\}"),
        ({"readout": {"x": ["${oc.decode:1}"]}}, r"^readout\.x\.0: .*\$\{oc\.decode:1\}"),
        ({"model": {"path": "pkg://antigravity/x"}}, r"^model\.path: .*trust=\[antigravity\]"),
        ({"eval": {"h": {"x": {"task": "evil.yaml"}}}}, r"^eval\.h\.x\.task: .*evil\.yaml"),
        ({"eval": {"h": {"x": {"task": "pkg://sempa_lightning/../evil.yaml"}}}}, r"^eval\.h\.x\.task: .*evil\.yaml"),
        ({"model": {"trust_remote_code": True}}, r"^model\.trust_remote_code: .*model\.trust_remote_code=true"),
        ({"prompt": {"_target_": 7}}, r"^prompt\._target_: 7 is not"),
        ({"prompt": {"_target_": "a..b"}}, r"^prompt\._target_: 'a\.\.b' is not"),
        ({"logger": {"jsonl": {"path": "/home/me/.bashrc"}}}, r"^logger\.jsonl\.path: .*/home/me/\.bashrc"),
        ({"logger": {"jsonl": {"path": "sitecustomize.py"}}}, r"^logger\.jsonl\.path: "),
        ({"logger": {"t": {"save_dir": "/runs/1", "name": "../../x"}}}, r"^logger\.t\.name: "),
        ({"callbacks": {"best": {"dirpath": "/"}}}, r"^callbacks\.best\.dirpath: "),
        ({"callbacks": {"best": {"_args_": ["data"]}}}, r"^callbacks\.best\._args_\.0: "),
    ],
)
def test_other_values_that_would_run_or_write_something_are_refused(config, told):
    with pytest.raises(UserError, match=told):
        check_saved({"paths": {"run_dir": "/runs/1"}, **config}, "config.yaml", [], [])
    assert "antigravity" not in sys.modules


def test_files_in_the_run_folder_and_files_that_are_read_are_allowed():
    config = {
        "paths": {"run_dir": "/runs/1"},
        "logger": {"jsonl": {"path": "/runs/1/metrics.jsonl"}, "tensorboard": {"save_dir": "/runs/1"}},
        "callbacks": {
            "best": {"dirpath": "/runs/1/checkpoints", "monitor": "eval/sts/dev/spearman"},
            "probe": {"suites": {"sts": {"dev": {"path": "/data/sts.csv"}}}},
        },
        "eval": {"harness": {"drop": {"task": "pkg://sempa_lightning/assets/harness/drop_sempa.yaml"}}},
        "model": {"path": "pkg://sempa_lightning/assets/nano", "trust_remote_code": False},
    }
    check_saved(config, "config.yaml", [], [])
    config = {"callbacks": {"best": {"dirpath": "/fast/disk"}, "client": {"key": "${oc.env:MY_KEY}"}}}
    check_saved(config, "config.yaml", ["/fast/disk", "MY_KEY"], [])


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
        "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
        "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n",
        "a: &a {b: *a}\n",
    ],
)
def test_a_config_that_aliases_make_endless_is_refused(text):
    with pytest.raises(UserError, match="values or contains itself"):
        check_saved(yaml.safe_load(text), "config.yaml", [], [])
