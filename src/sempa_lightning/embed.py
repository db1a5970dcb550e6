"""`python -m sempa_lightning.embed`: a vector for each text of a corpus of any size, by any number of processes."""

import os
import time
from collections.abc import Sequence
from typing import Any, Literal

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from sempa_lightning.artifacts import EmbeddingDir
from sempa_lightning.check import Count
from sempa_lightning.entry import (
    SUBJECT_GROUPS,
    checked,
    conf_dir,
    config_text,
    refuse_another_config,
    resumed_config,
    run_main,
    settle_dtype,
    subject_fields,
    subjects_of,
    telling_errors,
    trusted,
    with_saved,
)
from sempa_lightning.errors import UserError
from sempa_lightning.files import write_json, write_text
from sempa_lightning.masking import secret_overrides
from sempa_lightning.stopping import first_stopping_on_signals
from sempa_lightning.trust import consent

# What another call in the same folder may have otherwise: no vector follows from it.
_FREE = ("shard", "processes", "device", "paths", "prompt", "scoring")
_UNREAD = ("resume", "run_name", "objective", "optimizer", "data", "trust")


def embed(cfg: Any, trust: Sequence[str] = ()) -> None:  # noqa: ANN401 (as below)
    """Write the parts of this process's share that are not there yet.

    Args:
        cfg: The resolved config.
        trust: Modules that saved configs may name (see `check_saved`).

    Raises:
        UserError: If the corpus cannot be read, the folder holds something else, or a vector is not finite.
    """
    from sempa_lightning.data.table import named_table
    from sempa_lightning.embedding.corpus import Corpus
    from sempa_lightning.embedding.parts import Parts
    from sempa_lightning.embedding.progress import Progress
    from sempa_lightning.embedding.shard import own_shard
    from sempa_lightning.evaluation.workers import Workers, own_rank, worker_command
    from sempa_lightning.terminal import Terminal
    from sempa_lightning.training.setup import quieten

    quieten()
    folder, shard, start = EmbeddingDir(cfg.paths.run_dir), own_shard(cfg.shard), time.monotonic()
    if shard.shares > 1 and not any(word.startswith("hydra.run.dir=") for word in HydraConfig.get().overrides.hydra):
        raise UserError("processes that share a corpus write into one folder: give all the same hydra.run.dir=<folder>")
    console = Terminal(quiet=own_rank() > 0)
    corpus = Corpus(named_table("corpus", cfg.corpus, cfg.split, cfg.revision), cfg.column)
    parts = Parts(folder, corpus.survey(), cfg.part_rows, shard)
    refuse_another_config(folder, config_text(cfg), _FREE)
    if folder.config.is_file():  # else the files may be anyone's
        parts.remove_damaged()
    parts.read(parts.own)
    if not own_rank():  # what is gone on with is all of it, not one process's share
        write_text(folder.config, config_text({**cfg, "shard": None}))
    console.print(f"embedding folder: {folder.path}", soft_wrap=True)
    if parts.rest:
        with Progress(parts, console) as progress:
            if cfg.processes > 1:
                secrets = secret_overrides(HydraConfig.get().overrides.task)
                shares = [shard.split(place, cfg.processes) for place in range(cfg.processes)]
                command = worker_command("embed", folder.path, consent(OmegaConf.to_container(cfg), trust))
                commands = [[*command, f"shard={share}", "processes=1", *secrets] for share in shares]
                Workers(commands, folder.log, restarts=2 * cfg.processes).run(progress, console)
            else:
                _write(cfg, parts, corpus, progress, trust)
    _finish(cfg, parts, time.monotonic() - start, console)


def _write(cfg: Any, parts: Any, corpus: Any, progress: Any, trust: Sequence[str]) -> None:  # noqa: ANN401 (as below; types that are slow to import)
    """Load the model and write what is missing."""
    import torch

    from sempa_lightning.embedding.write import write_rest
    from sempa_lightning.models.embedder import Embedder

    subjects = subjects_of(cfg, _device(cfg.device), checkpoint=cfg.checkpoint, trust=trust)
    with subjects.lend(subjects.labels[-1]) as subject:
        weights = subject.cache.weights
        parts.read(parts.own, weights)
        embedder = Embedder(subject.model, subject.tokenizer, subject.readout, cfg.batch_size)
        dtype = getattr(torch, cfg.dtype)
        write_rest(parts, corpus, embedder, weights, dtype=dtype, keep_text=cfg.keep_text, progress=progress)


def _device(chosen: str | None) -> str | None:
    """Where the model goes: of several processes on a machine, each takes a GPU of its own."""
    import torch

    if chosen is not None or not torch.cuda.is_available():
        return chosen
    place = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    return f"cuda:{place % torch.cuda.device_count()}"


def _finish(cfg: Any, parts: Any, seconds: float, console: Any) -> None:  # noqa: ANN401 (as above)
    """Once all parts of the corpus are there: write the manifest, and tell what there is.

    Raises:
        UserError: If other processes have embedded something else.
    """
    from rich.table import Table

    from sempa_lightning.training.manifest import manifest

    there = sum(parts.folder.part(number).is_file() for number in parts.all)
    if there < len(parts.all):
        console.print(f"this share is done; {there} of {len(parts.all)} parts are there", highlight=False)
        return
    (first,) = parts.read(parts.all[:1])
    truncated = sum(about.truncated for about in parts.read(parts.all, first.weights))
    counts = {"texts": parts.survey.rows, "parts": len(parts.all), "width": first.width, "truncated": truncated}
    write_json(
        parts.folder.manifest,
        manifest(cfg.seed, "embed") | counts | {"corpus": first.corpus, "weights": first.weights},
    )
    parts.folder.remove_leftovers()
    table = Table("", "", title="Embedded", show_header=False)
    for name, number in (counts | {"seconds of this call": round(seconds)}).items():
        table.add_row(name, f"{number:,}")
    console.print(table)
    console.print(f"vectors are in {parts.folder.path}", soft_wrap=True)


def fields() -> dict[str, Any]:
    """Top-level keys of the config, each with the type of its value."""
    return subject_fields() | {
        "run": str | None,
        "checkpoint": str | None,
        "corpus": str,
        "column": str,
        "split": str,
        "revision": str | None,
        "part_rows": Count,
        "batch_size": Count,
        "dtype": Literal["float32", "float16"],
        "keep_text": bool,
        "shard": str | None,
        "processes": Count,
        "device": str | None,
        "resume": str | None,
    }


def composed(cfg: Any, overrides: list[str]) -> Any:  # noqa: ANN401 (as below)
    """The resolved config; a run brings its model and readout, but for what the command line gives.

    Raises:
        UserError: If no model or no corpus is named.
    """
    if cfg.run is None and OmegaConf.is_missing(cfg.model, "path"):
        raise UserError("embed with what? run=<run folder>, model=<option> or model.path=<folder or Hub name>")
    if cfg.corpus is None:
        raise UserError("embed what? corpus=<.txt, .csv, .tsv, .jsonl or .parquet file, or data set of the Hub>")
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in _UNREAD])
    OmegaConf.resolve(own)
    return own if cfg.run is None else with_saved(own, SUBJECT_GROUPS, overrides, trusted(cfg.trust))


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="embed")
def main(cfg: Any) -> None:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Hydra's door."""
    with telling_errors():
        overrides = list(HydraConfig.get().overrides.task)
        resumed, trust = cfg.resume is not None, trusted(cfg.trust)
        cfg = resumed_config(cfg, overrides, _FREE[:3], trust) if resumed else composed(cfg, overrides)
        cfg = checked(cfg, fields(), saved=resumed)
        if not resumed:
            settle_dtype(cfg, cfg.device)
        folder = EmbeddingDir(cfg.paths.run_dir)
        with first_stopping_on_signals(f"resume={folder.path}", folder.config.is_file):
            embed(cfg, trust)


if __name__ == "__main__":
    run_main(main)
