"""A run folder from a stranger is data: whatever its config names, no command runs it."""

import contextlib
import copy
import pickle
import sys

import optuna
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file

import sempa_lightning
from hydra_plugins.sempa.process_launcher import ProcessLauncher
from sempa_lightning import embed, evaluate, mine, report
from sempa_lightning.artifacts import RunDir
from sempa_lightning.entry import conf_dir, resumed_config, subjects_of, trusted
from sempa_lightning.errors import UserError
from sempa_lightning.export import export
from sempa_lightning.sweeps.search import Search


class Harm:
    """Unpickled, it writes the canary."""

    def __init__(self, canary):
        self._canary = canary

    def __reduce__(self):
        return open, (str(self._canary), "w")


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    """The file that code of the stranger would write."""
    return tmp_path_factory.mktemp("canary") / "it_ran"


@pytest.fixture(scope="module")
def nodes(canary, tmp_path_factory):
    """What a stranger may put into a config, by name: each would write the canary when it is built, or later."""
    folder = tmp_path_factory.mktemp("stranger")
    harm, code = folder / "harm.pkl", f"open({str(canary)!r}, 'w')"
    harm.write_bytes(pickle.dumps(Harm(canary)))
    for name in ("hubconf", "a_strangers_module"):
        (folder / f"{name}.py").write_text(f"{code}\ndef entry(): ...\n")
    touch = ["touch", str(canary)]
    path = {"_target_": "pathlib.Path", "_args_": [str(canary)]}
    write = {"_target_": "sempa_lightning.files.write_text", "path": path, "content": "x"}
    looked_up = {"_target_": "hydra.utils.get_method", "path": "os.system"}
    called = {
        "pandas.read_pickle": [str(harm)],
        "builtins.eval": [code],
        "builtins.exec": [code],
        "os.system": [" ".join(touch)],
        "subprocess.run": [touch],
        "shutil.copyfile": [str(harm), str(canary)],
        "pathlib.Path.write_text": [path, "x"],
        "importlib.import_module": ["a_strangers_module"],
        "joblib.load": [str(harm)],
        "urllib.request.urlretrieve": [harm.as_uri(), str(canary)],
        "sempa_lightning.entry.os.system": [" ".join(touch)],
        "webbrowser.open": ["about:blank"],
        "runpy.run_path": [str(folder / "hubconf.py")],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield {name: {"_target_": name, "_args_": arguments} for name, arguments in called.items()} | {
            "torch.load": {"_target_": "torch.load", "f": str(harm), "weights_only": False},
            "numpy.load": {"_target_": "numpy.load", "file": str(harm), "allow_pickle": True},
            "torch.hub.load": {"_target_": "torch.hub.load", "_args_": [str(folder), "entry"], "source": "local"},
            "own writer": write,
            "re-exported": {
                "_target_": "sempa_lightning.models.causal_lm.torch.load",
                **{"f": str(harm), "weights_only": False},
            },
            "looked up": looked_up,
            "nested": {"_target_": "hydra.utils.instantiate", "_recursive_": False, "config": write},
            "partial": {"_target_": "functools.partial", "_args_": [looked_up]},
            "deep": {"_target_": "sempa_lightning.prompts.template.PromptTemplate", "text": [{"a": [write]}]},
            "own processes": {
                "_target_": "sempa_lightning.evaluation.workers.Workers",
                **{"commands": [touch], "log": {"_target_": "builtins.print", "_partial_": True}, "restarts": 0},
            },
        }  # fmt: skip
    sys.modules.pop("a_strangers_module", None)


@pytest.mark.filterwarnings("ignore")
def test_the_canary_is_written_where_such_nodes_are_built(nodes, canary):
    built = []
    for name, node in nodes.items():
        sys.modules.pop("a_strangers_module", None)
        with contextlib.suppress(Exception):  # Hydra knows some dangers itself
            instantiate(node, _convert_="all")
        if canary.exists():
            built.append(name)
            canary.unlink()
    assert len(built) >= 12, built
    sys.modules.pop("a_strangers_module", None)


@pytest.fixture(scope="module")
def composed():
    """The default config of each command, for a folder."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        names = ("train", "evaluate", "embed", "mine", "synthesize")
        configs = {name: compose(name, ["paths.run_dir=unused"]) for name in names}

    def of(name, **values):
        cfg = copy.deepcopy(configs[name])
        for key, value in values.items():
            cfg[key] = value
        return cfg

    return of


VIEWED = ("model", "model.tokenizer", "readout", "readout.preprocess", "readout.template", "prompt", "prompt.system")
TRAINED = (
    *VIEWED, "adapter", "scoring", "reference.live", "data.train", "objective.loss", "optimizer", "scheduler",
    "callbacks.x", "callbacks.probe.suites.s.t", "logger.x", "trainer", "trainer.strategy", "trainer.plugins",
    "eval.s.t", "samples.pool", "encoder", "filters.x",
)  # fmt: skip


@pytest.fixture
def commands(composed, tmp_path):
    """Each command up to where it builds something, and the keys of a saved config that it reads."""
    with_run = (*VIEWED, "scoring")
    return {
        "load": (sempa_lightning.load, VIEWED),
        "export": (lambda run: export(RunDir(run), tmp_path / "out", ["merged"], None), VIEWED),
        "evaluate run=": (lambda run: evaluate.composed(composed("evaluate", run=str(run)), []), with_run),
        "embed run=": (lambda run: embed.composed(composed("embed", run=str(run), corpus="x.txt"), []), with_run),
        "mine run=": (lambda run: mine.composed(composed("mine", run=str(run)), []), (*with_run, "data.train")),
        "subjects": (lambda run: subjects_of(_resolved(composed("evaluate", run=str(run))), None), ("adapter",)),
        **{
            f"{name} resume=": (lambda run, name=name: resumed_config(composed(name, resume=str(run)), []), TRAINED)
            for name in ("train", "evaluate", "embed", "synthesize")
        },
    }


def _resolved(cfg):
    OmegaConf.resolve(cfg)
    return cfg


def _with(config, key, node):
    """The config with a node in the place of another."""
    *outer, last = key.split(".")
    config = place = copy.deepcopy(config)
    for name in outer:
        place = place.setdefault(name, {}) if isinstance(place.get(name, {}), dict) else place
    place[last] = node
    return config


def test_no_command_builds_what_a_stranger_names(write_run, nodes, canary, commands):
    run = write_run()
    config = yaml.safe_load(run.config.read_text()) | {"paths": {"run_dir": str(run.path)}}
    tried = 0
    for number, (kind, node) in enumerate(nodes.items()):
        for name, (command, keys) in commands.items():
            key = keys[number % len(keys)]
            run.config.write_text(yaml.safe_dump(_with(config, key, node), sort_keys=False))
            with pytest.raises(UserError, match=rf"^{key}.*trust=\["):
                command(run.path)
            assert not canary.exists(), (name, key, kind)
            tried += 1
    assert tried >= 20 * 10


@pytest.fixture
def stranger(write_run, nodes):
    """A run folder whose config names one of our own functions, one that writes a file, in a place of a component."""
    run = write_run()
    config = yaml.safe_load(run.config.read_text()) | {"paths": {"run_dir": str(run.path)}}
    run.config.write_text(yaml.safe_dump(_with(config, "readout.preprocess", nodes["own writer"])))
    return run


def test_the_commands_say_so_in_one_line(stranger, canary, here, evaluate_here, embed_here, mine_here, tmp_path):
    (tmp_path / "corpus.txt").write_text("A text.\n")
    out = f"hydra.run.dir={tmp_path}/out"
    for name, done in {
        "train": here(f"resume={stranger.path}"),
        "evaluate": evaluate_here(f"run={stranger.path}", out),
        "embed": embed_here(f"run={stranger.path}", f"corpus={tmp_path}/corpus.txt", out),
        "mine": mine_here(f"run={stranger.path}", "data=demo", out),
    }.items():
        assert done.returncode == 1, name
        lines = done.stderr.splitlines()
        assert len(lines) == 1, (name, lines)
        assert lines[0].startswith("error: readout.preprocess._target_: "), name
        assert not canary.exists(), name


def test_a_report_builds_nothing(stranger, canary, tmp_path):
    (stranger.path / "eval").mkdir()
    (stranger.path / "eval" / "sts.json").write_text("{}")
    with contextlib.suppress(SystemExit):
        report.main([str(stranger.path), "--out", str(tmp_path / "report")])
    assert not canary.exists()


def test_pickles_of_an_adapter_are_not_read(write_run):
    run = write_run()
    weights = load_file(run.adapter / "adapter_model.safetensors")
    (run.adapter / "adapter_model.safetensors").unlink()
    torch.save(weights, run.adapter / "adapter_model.bin")
    with pytest.raises(UserError, match=r"^adapter\.path: .*no adapter_model\.safetensors.*\.bin"):
        sempa_lightning.load(run.path)


def test_a_run_folder_cannot_consent_to_code_of_its_model(write_run):
    run = write_run()
    config = yaml.safe_load(run.config.read_text())
    run.config.write_text(yaml.safe_dump(_with(config, "model.trust_remote_code", True)))
    with pytest.raises(UserError, match=r"^model\.trust_remote_code: .*model\.trust_remote_code=true"):
        sempa_lightning.load(run.path)
    sempa_lightning.load(run.path, trust_remote_code=True)


def test_trust_and_consent_are_those_of_this_call_alone(write_run, composed):
    run = write_run()
    config = yaml.safe_load(run.config.read_text()) | {"paths": {"run_dir": str(run.path)}}
    config = _with(config, "readout.preprocess", {"_target_": "hydra.utils.get_method", "path": "textwrap.dedent"})
    run.config.write_text(yaml.safe_dump(_with(config, "model.trust_remote_code", True)))
    cfg = composed("train", resume=str(run.path))
    cfg.model.trust_remote_code = True
    with pytest.raises(UserError, match=r"^readout\.preprocess\.path: .*trust=\[textwrap\]"):
        resumed_config(cfg, ["model.trust_remote_code=true"])
    with pytest.raises(UserError, match=r"^model\.trust_remote_code: "):
        resumed_config(cfg, [], trust=["textwrap"])
    words = ["trust=[textwrap]", "model.trust_remote_code=true"]
    assert resumed_config(cfg, words, trust=["textwrap"]) == config | {
        "model": config["model"] | {"trust_remote_code": True}
    }


@pytest.mark.parametrize("given", ["my_module", {"my_module": 1}, [1]])
def test_trust_is_a_list_of_names(given):
    with pytest.raises(UserError, match=r"^trust: .*trust=\[my_module\]"):
        trusted(given)


def test_runs_of_a_sweep_are_given_the_trust_of_the_sweep_each_time(tmp_path):
    words = ["trust=[my_module]", "model.trust_remote_code=true", "+callbacks.x._target_=my_module.X", "seed=1,2"]
    launcher = ProcessLauncher("sempa_lightning.train", 1, [], [])
    config = {
        "sweep": {"resume": None},
        "hydra": {
            "sweep": {"dir": str(tmp_path)},
            "overrides": {"task": words, "hydra": []},
            "runtime": {"config_sources": []},
        },
    }
    launcher.setup(hydra_context=None, task_function=None, config=OmegaConf.create(config))
    launcher.begin()
    assert launcher._command[-2:] == words[:2]
    assert launcher.trial(0, words[:3], {}).words == (words[2],)
    assert yaml.safe_load((tmp_path / "sweep.json").read_text()) == words[2:]


@pytest.mark.parametrize("pickles", [False, True])
def test_pickles_of_a_study_are_read_only_where_they_are_trusted(tmp_path, pickles):
    storage = tmp_path / "optuna.db"
    study = optuna.create_study(storage=f"sqlite:///{storage}", study_name="sweep", direction="maximize")
    study._storage.set_trial_system_attr(study.ask()._trial_id, "cma:optimizer:0", "80049500")
    with contextlib.nullcontext() if pickles else pytest.raises(UserError, match=r"optuna\.db .*trust=\[optuna\]"):
        Search(
            storage, {"train/best": "maximize"}, optuna.samplers.RandomSampler, optuna.pruners.NopPruner(),
            seed=0, monitor="x", pickles=pickles,
        )  # fmt: skip
