"""Bad command lines, end to end: does each end in one line that names the key?

python benchmarks/bad_commands.py [--generated 40] [--only WORD]

Some commands are written down here; others are made from the config tree: a value of a wrong type, out of range or
null, a misspelt or missing key. Each runs in a fork of this process, which has imported everything. Prints a table of
outcomes, then one JSON line; ends with 1 if a command was accepted, printed a traceback, named no key or took too long.
"""

import argparse
import collections
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 12
QUICK = ["model=tiny_random", "eval=[]", "callbacks=none", "samples.sentences=[]", "trainer.max_steps=1"]

# Of each command: the overrides, and what the message must name.
TRAIN = [
    (["optimizer.lr=nan"], "optimizer.lr"),
    (["optimizer.lr=-1"], "optimizer.lr"),
    (["optimizer.lr="], "optimizer.lr"),
    (["optimizer.lr=inf"], "optimizer.lr"),
    (["optimizer.lr=high"], "optimizer.lr"),
    (["optimizer.lr='1e-3'"], "optimizer.lr"),
    (["optimizer.lr=[1e-3,1e-4]"], "optimizer.lr"),
    (["optimizer.weight_decay=-1"], "optimizer.weight_decay"),
    (["optimizer.betas=0.9"], "optimizer.betas"),
    (["optimizer.betas=[0.9]"], "optimizer.betas"),
    (["optimizer.betas=[0.9,1.5]"], "optimizer.betas"),
    (["optimizer._target_=torch.optim.SGD"], "optimizer.betas"),
    (["optimizer._target_=torch.optim.AdamX"], "optimizer._target_"),
    (["optimizer._target_=torch.nn.Linear"], "optimizer."),
    (["optimizer._target_=no_such_module.Adam"], "optimizer._target_"),
    (["+optimizer.epsilon=1e-6"], "optimizer.epsilon"),
    (["++optimizer.lrr=1"], "optimizer.lrr"),
    (["optimizer.lrr=1"], "optimizer.lrr"),
    (["optimizer=null"], "optimizer"),
    (["optimizer=sgd"], "optimizer"),
    (["~optimizer"], "optimizer"),
    (["+scheduler.warmup_steps=10"], "scheduler.warmup_steps"),
    (["scheduler.warmup_ratio=2"], "scheduler.warmup_ratio"),
    (["scheduler.warmup_ratio=-0.5"], "scheduler.warmup_ratio"),
    (["scheduler.warmup_ratio=nan"], "scheduler.warmup_ratio"),
    (["scheduler=linear", "scheduler.warmup_steps=-3"], "scheduler.warmup_steps"),
    (["scheduler._target_=torch.optim.lr_scheduler.StepLR"], "scheduler"),
    (["adapter.r=1.5"], "adapter.r"),
    (["adapter.r=0"], "adapter.r"),
    (["adapter.r=true"], "adapter.r"),
    (["adapter.dropout=2"], "adapter.dropout"),
    (["adapter.target_modules=5"], "adapter.target_modules"),
    (["adapter.target_modules=[nowhere]"], "adapter.target_modules"),
    (["adapter=saved"], "adapter.path"),
    (["~adapter.r"], "adapter.r"),
    (["trainer.max_steps=2.5"], "trainer.max_steps"),
    (["trainer.max_steps=0"], "trainer.max_steps"),
    (["trainer.max_steps=inf"], "trainer.max_steps"),
    (["trainer.max_steps=-5"], "trainer.max_steps"),
    (["trainer.max_steps=-1", "trainer.max_epochs=-1"], "trainer.max_steps"),
    (["trainer.max_steps=-1", "trainer.max_epochs=-1", "+trainer.max_time=00:00:00:05"], "trainer.max_steps"),
    (["trainer.max_epochs=1.5"], "trainer.max_epochs"),
    (["trainer.val_check_interval=0"], "trainer.val_check_interval"),
    (["trainer.limit_val_batches=-1"], "limit_val_batches"),
    (["+trainer.overfit_batches=2"], "trainer.overfit_batches"),
    (["+trainer.callbacks=[]"], "trainer.callbacks"),
    (["+trainer.logger=false"], "trainer.logger"),
    (["+trainer.default_root_dir=x"], "trainer.default_root_dir"),
    (["+trainer.gradient_clip_val=1.0"], "trainer.gradient_clip_val"),
    (["+trainer.max_step=3"], "trainer.max_step"),
    (["trainer.precision=7-mixed"], "trainer.precision"),
    (["trainer.accelerator=banana"], "trainer"),
    (["trainer.devices=-3"], "trainer"),
    (["trainer=gpus"], "trainer"),
    (["max_grad_norm=-1"], "max_grad_norm"),
    (["max_grad_norm=0"], "max_grad_norm"),
    (["max_grad_norm=much"], "max_grad_norm"),
    (["compile=maybe"], "compile"),
    (["preflight=7"], "preflight"),
    (["monitor=[a]"], "monitor"),
    (["data.num_workers=-1"], "data.num_workers"),
    (["data.num_workers=two"], "data.num_workers"),
    (["data.batch_size=0"], "data.batch_size"),
    (["data.batch_size=2.5"], "data.batch_size"),
    (["data.max_length=-1"], "data.max_length"),
    (["data.unfit=keep"], "data.unfit"),
    (["data.group=2"], "data.group"),
    (["data=simcse"], "data.path"),
    (["data=simcse", "data.path=nowhere.csv"], "data.path"),
    (["data=simcse", "data.path=7"], "data.path"),
    (["data.negatives.in_batch=1.5"], "data.negatives.in_batch"),
    (["data.layout=null"], "data.layout"),
    (["seed=-1"], "seed"),
    (["seed=x"], "seed"),
    (["seed=1.5"], "seed"),
    (["seed=99999999999999999999"], "seed"),
    (["samples.neighbours=-1"], "samples.neighbours"),
    (["samples.neighbours=100000", "samples.sentences=[One.]"], "samples.neighbours"),
    (["samples.sentences=hello"], "samples.sentences"),
    (["samples.sentences=[1,2]"], "samples.sentences"),
    (["run_name="], "run_name"),
    (["hydra.run.dir="], "hydra.run.dir"),
    (["+foo=bar"], "foo"),
    (["++sede=1"], "sede"),
    (["=3"], "=3"),
    (["readout.layer=99"], "layer"),
    (["readout.layer=last"], "readout.layer"),
    (["readout.pooling._target_=sempa_lightning.pooling.mean.men"], "readout.pooling._target_"),
    (["readout.preprocess.path=sempa_lightning.prompts.sentence.nothing"], "readout.preprocess.path"),
    (["readout=null"], "readout"),
    (["prompt.text=no place"], "prompt"),
    (["prompt.chat=maybe"], "prompt.chat"),
    (["scoring.sequence_tokens=0"], "scoring.sequence_tokens"),
    (["scoring=padded", "+scoring.sequence_tokens=3"], "scoring.sequence_tokens"),
    (["loss.beta=-1"], "loss.beta"),
    (["loss.beta=x"], "loss.beta"),
    (["loss=sigmoid", "loss.label_smoothing=0.9"], "loss.label_smoothing"),
    (["objective=contrastive", "loss=ipo"], "loss"),
    (["objective=contrastive", "objective.readout.layer=-2"], "objective.readout.layer"),
    (["objective=contrastive", "objective.kl_weight=-1"], "objective.kl_weight"),
    (["objective=preference", "objective.nll_weight=x"], "objective.nll_weight"),
    (["objective._target_=sempa_lightning.models.adapters.FullFineTuning"], "objective"),
    (["reference.live=null"], "reference.live"),
    (["model.hidden_size=x"], "model.hidden_size"),
    (["model=causal_lm"], "model.path"),
    (["model=causal_lm", "model.path=/no/such/folder"], "model.path"),
    (["model.path=x"], "model.path"),
    (["+model.gradient_checkpointing=true"], "model.gradient_checkpointing"),
    (["+callbacks.probe.suites.sts.dev.limit=3"], "callbacks.probe"),
    (["callbacks=none", "+callbacks.stop={patience: 3}"], "callbacks.stop"),
    (["+callbacks.stop._target_=torch.nn.Linear"], "callbacks.stop"),
    (["+logger.mine={a: 1}"], "logger.mine"),
    (["logger=wandbb"], "logger"),
    (["+eval.sts={dev: {pairs: 3}}"], "eval.sts.dev"),
    (["resume=badcfg"], "badcfg"),
    (["resume=badcfg2"], "badcfg2"),
    (["resume=[a,b]"], "resume"),
    (["resume=nowhere"], "nowhere"),
    (["resume=7"], "resume"),
    (["resume=base", "optimizer.lr=1"], "optimizer.lr"),
    (["-m", "sweep=tpe", "sweep.trials=2", "adapter.r=interval(2,32)"], "adapter.r"),
    (["-m", "+sweep.trials=3", "seed=0,1"], "sweep.trials"),
    (["-m", "sweep.trials=3", "seed=0,1"], "sweep.trials"),
    (["-m", "++sweep.resume=nowhere", "seed=0,1"], "nowhere"),
]
EVALUATE = [
    ([], "run="),
    (["run=nowhere"], "nowhere"),
    (["run=[a]"], "run"),
    (["run=badcfg"], "badcfg"),
    (["run=badcfg2"], "badcfg2"),
    (["run=base", "processes=two"], "processes"),
    (["run=base", "processes=0"], "processes"),
    (["run=base", "device=cuda:99"], "device"),
    (["run=base", "device=banana"], "device"),
    (["run=base", "device=3"], "device"),
    (["run=base", "keep_layers=3"], "keep_layers"),
    (["run=base", "keep_layers=[last]"], "keep_layers"),
    (["run=base", "subjects=[now]"], "subjects"),
    (["run=base", "limit=5", "eval=[sts]"], "limit"),
    (["run=base", "++limit=5", "eval=[sts]"], "limit"),
    (["run=base", "limit=0", "eval=[harness_local]"], "limit"),
    (["run=base", "limit=some"], "limit"),
    (["run=base", "follow=7"], "follow"),
    (["run=base", "poll_seconds=-1"], "poll_seconds"),
    (["run=base", "checkpoint=nothing.ckpt"], "checkpoint"),
    (["run=base", "checkpoint=[1]"], "checkpoint"),
    (["run=tornrun", "checkpoint=last.ckpt"], "last.ckpt"),
    (["run=base", "+foo=1"], "foo"),
    (["run=base", "eval=[nothing]"], "nothing"),
    (["run=base", "seed=-1"], "seed"),
    (["run=base", "readout.layer=x"], "readout.layer"),
    (["resume=nowhere"], "nowhere"),
    (["model=tiny_random", "readout.layer=1.5"], "readout.layer"),
]
EMBED = [
    (["model=tiny_random"], "corpus"),
    (["model=tiny_random", "corpus=texts.txt", "batch_size=0"], "batch_size"),
    (["model=tiny_random", "corpus=texts.txt", "dtype=int8"], "dtype"),
    (["model=tiny_random", "corpus=texts.txt", "device=banana"], "device"),
    (["model=tiny_random", "corpus=texts.txt", "part_rows=x"], "part_rows"),
    (["model=tiny_random", "corpus=texts.txt", "shard=5/2"], "shard"),
    (["model=tiny_random", "corpus=texts.txt", "keep_text=some"], "keep_text"),
    (["model=tiny_random", "corpus=texts.txt", "+foo=1"], "foo"),
    (["model=tiny_random", "corpus=texts.txt", "column=none"], "column"),
    (["model=tiny_random", "corpus=nowhere.txt"], "nowhere.txt"),
]
EXPORT = [
    ([], "run"),
    (["run=badcfg2", "out=x1"], "badcfg2"),
    (["run=badcfg", "out=x2"], "badcfg"),
    (["run=base", "formats=adapter"], "formats"),
    (["run=base", "formats=[onnx]"], "formats"),
    (["run=base", "out=[1]"], "out"),
    (["run=base", "+foo=1"], "foo"),
    (["run=base", "out=x3", "push=a b"], "push"),
]
MINE = [
    (["model=tiny_random"], "data"),
    (["model=tiny_random", "data=demo", "number=0"], "number"),
    (["model=tiny_random", "data=demo", "of_positive=x"], "of_positive"),
    (["model=tiny_random", "data=demo", "of_positive=nan"], "of_positive"),
    (["model=tiny_random", "data=demo", "given=some"], "given"),
    (["model=tiny_random", "data=demo", "device=banana"], "device"),
    (["model=tiny_random", "data=demo", "+foo=1"], "foo"),
]
SYNTHESIZE = [
    (["model=tiny_random"], "sentences"),
    (["model=tiny_random", "sentences=texts.txt", "limit=0"], "limit"),
    (["model=tiny_random", "sentences=texts.txt", "batch_size=x"], "batch_size"),
    (["model=tiny_random", "sentences=texts.txt", "device=banana"], "device"),
    (["model=tiny_random", "sentences=texts.txt", "sampling.temperature=-1"], "temperature"),
    (["model=tiny_random", "sentences=texts.txt", "sampling.top_p=2"], "top_p"),
    (["model=tiny_random", "sentences=texts.txt", "filters.copy.overlap=x"], "filters.copy.overlap"),
    (["model=tiny_random", "sentences=texts.txt", "+filters.mine={a: 1}"], "filters.mine"),
    (["model=tiny_random", "sentences=texts.txt", "chat=some"], "chat"),
]
REPORT = [
    ([], "FOLDER"),
    (["nowhere"], "nowhere"),
    (["base", "--paper", "Nope"], "Nope"),
    (["badcfg", "--out", "x4"], "badcfg"),
]
COMMANDS = {
    "train": TRAIN,
    "evaluate": EVALUATE,
    "embed": EMBED,
    "export": EXPORT,
    "mine": MINE,
    "synthesize": SYNTHESIZE,
    "report": REPORT,
}


class Change(NamedTuple):
    """A change that makes a config bad.

    Attributes:
        kind: What is wrong with it.
        key: Dotted path of the key.
        value: Its new value; `...` takes the key away.
    """

    kind: str
    key: str
    value: Any

    @property
    def override(self) -> str:
        """The change as an override."""
        return f"~{self.key}" if self.value is ... else f"++{self.key}={_written(self.value)}"

    def applied(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of a config with the change."""
        changed = json.loads(json.dumps(config))
        *path, name = self.key.split(".")
        node = changed
        for part in path:
            node = node[part]
        if self.value is ...:
            del node[name]
        else:
            node[name] = self.value
        return changed


def changes(config: dict[str, Any], key: str = "") -> Iterator[Change]:
    """Yield what makes a resolved config bad, for each of its keys that stands in mappings alone."""
    for name, value in config.items():
        path = f"{key}.{name}" if key else name
        yield from _changes_of(path, name, value)
        if isinstance(value, dict):
            yield from changes(value, path)
            if "_target_" in value:
                yield Change("unknown key", f"{path}.no_such_key", 1)
                for known in value:
                    if not known.startswith("_"):
                        yield Change("misspelt key", f"{path}.{known}x", value[known])


def _changes_of(path: str, name: str, value: Any) -> Iterator[Change]:  # noqa: ANN401 (a value of a config)
    if name == "_target_":
        yield Change("misspelt target", path, f"{value}x")
        yield Change("target of no module", path, "no_such_module.Thing")
        yield Change("target that is text", path, 7)
    elif isinstance(value, bool):
        yield Change("text for a bool", path, "maybe")
        yield Change("number for a bool", path, 7)
    elif isinstance(value, int | float):
        yield Change("text for a number", path, "many")
        yield Change("list for a number", path, [value])
        yield Change("bool for a number", path, True)
        yield Change("mapping for a number", path, {"a": 1})
        yield Change("not a number", path, float("nan"))
        if isinstance(value, int):
            yield Change("fraction", path, value + 0.5)
    elif isinstance(value, str):
        yield Change("mapping for text", path, {"a": 1})
        yield Change("bool for text", path, True)
    elif isinstance(value, list):
        yield Change("number for a list", path, 7)
        yield Change("mapping for a list", path, {"a": 1})
    elif isinstance(value, dict) and "_target_" in value:
        yield Change("number for a component", path, 7)
        yield Change("text for a component", path, "thing")
        yield Change("mapping for a component", path, {"a": 1})
        yield Change("another class", path, {"_target_": "fractions.Fraction"})


def _written(value: Any) -> str:  # noqa: ANN401 (a value of a config)
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not isinstance(value, float)
        else str(value)
    )


class Outcome(NamedTuple):
    """How a command ended.

    Attributes:
        words: The command line.
        kind: `refused` if all is well, else what is wrong.
        seconds: How long it took.
        line: The last line that it printed.
    """

    words: str
    kind: str
    seconds: float
    line: str


def outcome(command: str, words: list[str], named: str, folder: Path, limit: float = SECONDS) -> Outcome:
    """Run a command in a fork of this process."""
    output, start = folder / "output.txt", time.monotonic()
    if not (child := os.fork()):
        _become(command, words, folder, output)
    while not (done := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < start + limit:
        time.sleep(0.01)
    seconds, shown = time.monotonic() - start, f"{command} {' '.join(words)}"
    if not done[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return Outcome(shown, "too slow", seconds, "")
    text = output.read_text(errors="replace")
    lines = text.strip().splitlines() or [""]
    errors = [line for line in lines if "error: " in line or line.startswith("Error")]
    code = os.waitstatus_to_exitcode(done[1])
    line = errors[-1] if errors else lines[-1]
    if "Traceback (most recent call last)" in text:
        kind = "traceback"
    elif code < 0:
        kind = f"killed by signal {-code}"
    elif code == 0:
        kind = "accepted"
    elif named not in (line if errors else text):
        kind = "names no key"
    else:
        kind = "refused"
    return Outcome(shown, kind, seconds, line)


def _become(command: str, words: list[str], folder: Path, output: Path) -> None:
    """Be the command; this never returns."""
    code: Any = 1
    try:
        os.chdir(folder)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        sys.argv = [f"sempa_lightning/{command}.py", *words]
        module = sys.modules[f"sempa_lightning.{command}"]
        if command == "report":
            module.main(words)
        else:
            sys.modules["sempa_lightning.entry"].run_main(module.main)
        code = 0
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def prepare(folder: Path) -> None:
    """Write what commands refer to: a run, damaged copies of it, and a few texts."""
    import importlib
    import shutil

    import lightning.pytorch.callbacks  # noqa: F401
    import mteb  # noqa: F401

    for name in COMMANDS:
        importlib.import_module(f"sempa_lightning.{name}")
    for name in ("training.module", "evaluation.before_after", "evaluation.harness", "models.causal_lm"):
        importlib.import_module(f"sempa_lightning.{name}")
    (folder / "texts.txt").write_text("A cat sat.\nA dog ran.\n")
    words = [*(word for word in QUICK if word != "callbacks=none"), "callbacks=sts", "hydra.run.dir=base"]
    made = outcome("train", words, "", folder, limit=300)
    if made.kind != "accepted":
        raise SystemExit(f"no run to try on: {made}")
    for name in ("badcfg", "badcfg2", "tornrun"):
        shutil.copytree(folder / "base", folder / name)
    (folder / "badcfg" / "config.yaml").write_text("a: [\n")
    (folder / "badcfg2" / "config.yaml").write_text("seed: 1\n")
    torn = folder / "tornrun" / "checkpoints" / "last.ckpt"
    torn.write_bytes(torn.read_bytes()[:2000])


def generated(number: int) -> list[tuple[list[str], str]]:
    """Overrides made from the config tree of training, drawn at random from a fixed seed."""
    import hydra
    from omegaconf import OmegaConf

    from sempa_lightning.entry import conf_dir

    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = hydra.compose("train", ["model=tiny_random", "eval=[sts]", "objective=joint"])
    cfg.paths.run_dir = "run"
    OmegaConf.resolve(cfg)
    plain: Any = OmegaConf.to_container(cfg)
    del plain["sweep"], plain["paths"], plain["trust"]
    found = [change for change in changes(plain) if not change.key.startswith(("loss", "divergence"))]
    chosen = random.Random(0).sample(found, number)
    return [([change.override], change.key.rpartition(".")[2]) for change in chosen]


def main() -> None:
    """Run all commands and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generated", type=int, default=40, help="how many commands to make from the config tree")
    parser.add_argument("--only", default="", help="run the commands alone whose line has this word")
    chosen = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    os.environ.pop("SEMPA_DATA_DIR", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        commands = [(command, words, named) for command, rows in COMMANDS.items() for words, named in rows]
        commands += [("train", words, named) for words, named in generated(chosen.generated)]
        outcomes = []
        for command, words, named in commands:
            first = QUICK if command == "train" and not any(word.startswith("resume=") for word in words) else []
            if chosen.only not in f"{command} {' '.join(words)}":
                continue
            first = ["-m", *first] if words[:1] == ["-m"] else first
            outcomes.append(outcome(command, [*first, *words[words[:1] == ["-m"] :]], named, folder))
    bad = [found for found in outcomes if found.kind != "refused"]
    for found in outcomes:
        shown = found.words.replace(" ".join(QUICK), "…")
        print(f"{found.kind:<14} {found.seconds:5.1f} s  {shown}\n    {re.sub(' +', ' ', found.line)[:300]}")
    counts = collections.Counter(found.kind for found in outcomes)
    slowest = max((found.seconds for found in outcomes), default=0.0)
    print(json.dumps({"commands": len(outcomes), **counts, "slowest_s": round(slowest, 1)}))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
