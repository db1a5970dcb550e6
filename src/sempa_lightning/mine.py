"""`python -m sempa_lightning.mine`: find hard negatives for the rows of a data set with a model's embeddings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from sempa_lightning.artifacts import MiningDir
from sempa_lightning.check import Count
from sempa_lightning.entry import (
    SUBJECT_GROUPS,
    checked,
    conf_dir,
    config_text,
    instantiate,
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
from sempa_lightning.stopping import stopping_on_signals

_SHOWN_ROWS = 3
# Parameters of `data` that mining does not read.
PASSED = {"data": {"tokenizer": "model=<option>", "negatives": ""}}


def mine(cfg: Any, trust: Sequence[str] = ()) -> None:  # noqa: ANN401 (as below)
    """Embed all sentences, search, and write the rows of both parts; negatives of both are training sentences.

    Args:
        cfg: The resolved config.
        trust: Modules that the saved config of the run may name (see `check_saved`).

    Raises:
        UserError: If the rows cannot be read, the folder holds something else, or no row has a
            negative.
    """
    from sempa_lightning.data.hard_negatives import Embedded, Window, chosen_words, distinct_sentences, mined_rows
    from sempa_lightning.data.load import CleanRows
    from sempa_lightning.evaluation.runner import bars, tracker
    from sempa_lightning.terminal import Terminal
    from sempa_lightning.training.manifest import manifest
    from sempa_lightning.training.setup import quieten

    quieten()
    folder, console = MiningDir(cfg.paths.run_dir), Terminal()
    window = Window(cfg.of_positive, cfg.max_similarity, cfg.min_similarity)
    sources = {"train": instantiate(cfg.data.train), "dev": instantiate(cfg.data.dev)}
    limits = {"group": cfg.data.group, "max_rows": cfg.data.max_rows, "max_rejected": cfg.data.max_rejected}
    read = {part: CleanRows(source, **limits, need_rejected=False) for part, source in sources.items()}
    parts = {part: list(rows) for part, rows in read.items()}
    folder.begin(config_text(cfg))
    console.print(f"folder: {folder.path}", soft_wrap=True)
    pool = distinct_sentences(parts["train"])
    chosen = chosen_words(row for rows in parts.values() for row in rows)
    sentences = [*pool, *(text for rows in parts.values() for row in rows for text in row.texts)]
    subjects = subjects_of(cfg, cfg.device, trust=trust)
    with subjects.lend(subjects.labels[-1]) as subject, bars(console) as shown:
        device = next(subject.model.parameters()).device
        embedded = Embedded.of(sentences, subject.embedder.encode, device, tracker(shown, "embed"))
        found = {
            part: mined_rows(
                rows,
                pool,
                embedded,
                window,
                cfg.number,
                chosen=chosen,
                given=cfg.given,
                progress=tracker(shown, f"search {part}"),
            )
            for part, rows in parts.items()
        }
    counts = {
        part: {"data": read[part].counts.as_dict(), **mined.as_dict(_SHOWN_ROWS)} for part, mined in found.items()
    }
    if empty := [part for part, mined in found.items() if not mined.rows]:
        left_out = counts[empty[0]]["left_out"]
        raise UserError(
            f"no {empty[0]} row has a negative ({left_out}): widen of_positive, max_similarity or min_similarity"
        )
    for part, mined in found.items():
        write_text(
            folder.rows(part), "".join(f"{json.dumps(row.as_dict(), ensure_ascii=False)}\n" for row in mined.rows)
        )
    write_json(folder.manifest, manifest(cfg.seed, "mine") | {"sentences": len(pool)} | counts)
    _print(console, counts)
    console.print(
        f"{len(pool)} sentences searched; train on the rows with data=mined data.path={folder.path}", soft_wrap=True
    )


def _print(console: Any, counts: Mapping[str, Any]) -> None:  # noqa: ANN401 (a type that is slow to import)
    """Tables of what was found, and of the first training rows."""
    from rich.table import Table

    table = Table("part", "rows", "rows with K candidates", "sentences left out", title="Mined negatives")
    for part, of_part in counts.items():
        sizes = (f"K={size}: {rows}" for size, rows in of_part["candidates"].items())
        left_out = (f"{reason}: {number}" for reason, number in of_part["left_out"].items())
        table.add_row(part, str(of_part["rows"]), "\n".join(sizes), "\n".join(left_out))
    console.print(table)
    table = Table("anchor", "chosen", "rejected", "nearest left out", title="The first rows", show_lines=True)
    for row in counts["train"]["examples"]:
        rejected = zip(row["similarities"], row["rejected"], strict=True)
        table.add_row(
            row["anchor"],
            f"{row['positive_similarity']:.2f} {row['chosen'][0]}",
            "\n".join(f"{similarity:.2f} {text}" for similarity, text in rejected),
            "-" if row["too_near"] is None else f"{row['too_near'][1]:.2f} {row['too_near'][0]}",
        )
    console.print(table)


def fields() -> dict[str, Any]:
    """Top-level keys of the config, each with the type of its value."""
    from lightning import LightningDataModule

    return subject_fields() | {
        "run": str | None,
        "data": LightningDataModule,
        "number": Count,
        "of_positive": float | None,
        "max_similarity": float | None,
        "min_similarity": float | None,
        "given": bool,
        "device": str | None,
    }


def composed(cfg: Any, overrides: list[str]) -> Any:  # noqa: ANN401 (as below)
    """The resolved config; a run brings its model, readout and data, but for what the command line gives.

    Raises:
        UserError: If no model or no preference rows are named.
    """
    if cfg.run is None and OmegaConf.is_missing(cfg.model, "path"):
        raise UserError("with which model? run=<run folder>, model=<option> or model.path=<folder or Hub name>")
    brought = ("run_name", "objective", "optimizer", "trainer", "trust")
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in brought])
    OmegaConf.resolve(own)
    own = own if cfg.run is None else with_saved(own, (*SUBJECT_GROUPS, "data"), overrides, trusted(cfg.trust))
    if not {"train", "dev"} <= set(own.data):
        raise UserError("for which rows? Name preference data, such as data=simcse data.path=<file>")
    return own


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="mine")
def main(cfg: Any) -> None:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Hydra's door."""
    with telling_errors():
        trust = trusted(cfg.trust)
        cfg = checked(composed(cfg, list(HydraConfig.get().overrides.task)), fields(), PASSED)
        settle_dtype(cfg, cfg.device)
        with stopping_on_signals("", lambda: False):
            mine(cfg, trust)


if __name__ == "__main__":
    run_main(main)
