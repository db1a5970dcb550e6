"""Run folders, written by hand."""

import json

import pytest
import yaml

CLASS = "sempa_lightning.losses"


@pytest.fixture
def write():
    """Write the folder of a run, with a trial's record where `state` says what became of it."""

    def run(folder, *, beta=0.1, lr=1e-3, seed=0, state=None, why="", summary=None, log=(), loss="hinge.Hinge"):
        folder.mkdir(parents=True)
        if state:
            words = [f"loss.beta={beta}", f"optimizer.lr={lr}", f"seed={seed}", "run_name=any"]
            content = {"words": words, "chosen": {}, "state": state, "why": why}
            (folder / "trial.json").write_text(json.dumps(content))
        if state in ("queued", "failed"):
            return folder
        chosen = {"_target_": f"{CLASS}.{loss}", "beta": beta, **({"margin": 1} if loss == "hinge.Hinge" else {})}
        config = {
            "paths": {"run_dir": str(folder)},
            "objective": {"loss": chosen},
            "loss": chosen,
            "optimizer": {"lr": lr},
            "data": {"seed": seed},
            "trainer": {"max_steps": 60},
            "callbacks": {"best": {"dirpath": f"{folder}/checkpoints"}},
            "monitor": "eval/sts/dev/spearman",
            "run_name": folder.name,
            "seed": seed,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "manifest.json").write_text(json.dumps({"commit": "0123456789abcdef"}))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        if summary:
            (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return run


def numbers(best, sts, perplexity, kl=0.25):
    """A summary."""
    return {
        "before/sts/demo/spearman": 0.5,
        "after/sts/demo/spearman": sts,
        "before/generation/demo/perplexity": 20.0,
        "after/generation/demo/perplexity": perplexity,
        "before/generation/demo/kl": 0.0,
        "after/generation/demo/kl": kl,
        "train/steps": 60.0,
        "train/best": best,
    }


@pytest.fixture
def sweep(tmp_path, write):
    """Two settings with two seeds each, one of them half done; one failed, one pruned, one queued."""
    folder = tmp_path / "sweep"
    curve = [{"step": step, "train/loss": 1 / (step + 1)} for step in range(60)]
    write(folder / "0", seed=0, state="done", summary=numbers(0.6, 0.56, 21.0), log=curve)
    write(folder / "1", seed=1, state="done", summary=numbers(0.62, 0.60, 23.0), log=curve)
    write(folder / "2", beta=0.2, seed=0, state="done", summary=numbers(0.7, 0.7, 30.0), log=curve)
    probes = [{"step": 5, "eval/sts/dev/spearman": 0.66}, {"step": 11, "eval/sts/dev/spearman": 0.64}]
    write(folder / "3", beta=0.2, seed=1, state="running", log=[*curve[:12], *probes])
    with (folder / "3/metrics.jsonl").open("a") as lines:
        lines.write('{"step": 12, "train/lo')
    write(folder / "4", beta=-1, state="failed", why="loss.beta=-1 is not above 0 <b>")
    (folder / "4/output.txt").write_text(
        "step 1\rstep 2\rstep 3\n\x1b[31merror: loss.beta=-1\x1b[0m is not above 0 <b>\n"
    )
    write(folder / "9", beta=0.3, state="pruned", why="at probe 1, eval/sts/dev/spearman = 0.1", log=curve[:5])
    write(folder / "10", beta=0.4, state="queued")
    return folder
