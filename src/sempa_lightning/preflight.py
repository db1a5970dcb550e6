"""`python -m sempa_lightning.train preflight=true`: do model, batch and strategy fit the devices?"""

import os
from typing import Any

import torch
from torch import nn

from sempa_lightning.entry import instantiate
from sempa_lightning.errors import UserError

# Share of a device's memory that a step may take: the rest is for libraries, and lost between blocks.
_USABLE = 0.9
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_WEIGHTS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
_GIB = 2**30


def preflight(cfg: Any) -> bool:  # noqa: ANN401 (a DictConfig, whose own type hints the run-time checks cannot read)
    """Print what an optimiser step takes on each device, and tell whether it is there; only configs are read.

    Raises:
        UserError: If the model is out of reach, is quantised, or shall be in host memory.
    """
    from rich.table import Column, Table

    from sempa_lightning.scoring.head import chunk_size, lm_head
    from sempa_lightning.scoring.packed import Packed
    from sempa_lightning.terminal import Terminal
    from sempa_lightning.training.footprint import Footprint, Spread, Work, footprint
    from sempa_lightning.training.setup import is_first_process, quieten
    from sempa_lightning.training.sharded import Sharded

    quieten()
    trainer = instantiate(cfg.trainer, logger=False, enable_checkpointing=False)
    policy = instantiate(cfg.adapter).attach(_outline(cfg.model))
    if trainer.precision in _WEIGHTS:
        policy = policy.to(_WEIGHTS[trainer.precision])
    layout, tokens = instantiate(cfg.scoring), cfg.data.micro_batch_tokens
    packed = isinstance(layout, Packed)
    work = Work(
        tokens,
        scored=tokens,
        logits=min(tokens, chunk_size(lm_head(policy).vocab_size)) if packed else tokens,
        sequence_tokens=layout.sequence_tokens if packed else tokens,
        passes=_passes(cfg.objective),
        autocast=_AUTOCAST.get(trainer.precision),
        checkpointing=bool(cfg.model.get("gradient_checkpointing")),
    )
    spread = Spread(trainer.world_size)
    if isinstance(trainer.strategy, Sharded):
        if trainer.strategy.offload:
            raise UserError("preflight counts what devices hold: leave trainer.strategy.offload out")
        spread = Spread(trainer.world_size // trainer.strategy.replicas, sharded=True)
    needs = footprint(policy, instantiate(cfg.optimizer), work, spread, frozen_copies=_copies(cfg.reference))
    device = trainer.strategy.root_device
    memory = _memory(device, trainer.num_devices)
    fits = needs.total <= _USABLE * memory
    table = Table("", Column("GiB", justify="right"), title="An optimiser step, on each device")
    for name, size in zip(Footprint._fields[:-1], needs, strict=False):
        table.add_row(name, f"{size / _GIB:.2f}")
    table.add_row("all", f"{needs.total / _GIB:.2f}")
    table.add_row(f"what {device.type} has", f"{memory / _GIB:.2f}")
    console = Terminal(quiet=not is_first_process())
    console.print(table)
    remedy = "it does not fit: lower data.micro_batch_tokens, or set +model.gradient_checkpointing=true"
    console.print("it fits" if fits else remedy, highlight=False, soft_wrap=True)
    return fits


def _outline(node: Any) -> nn.Module:  # noqa: ANN401 (as above)
    """The model that a node would load, without weights."""
    from hydra.utils import get_object

    from sempa_lightning.models.causal_lm import load_causal_lm, outline

    if node.get("load_in_4bit"):
        raise UserError("preflight counts weights as they are, not in 4 bits: leave model.load_in_4bit out")
    model: nn.Module
    if get_object(node._target_) is load_causal_lm:
        model = outline(
            node.path,
            revision=node.get("revision"),
            dtype=node.get("dtype", "float32"),
            trust_remote_code=node.get("trust_remote_code", False),
        )
    else:
        with torch.device("meta"):
            model = instantiate(node).model
    return model


def _passes(objective: Any) -> int:  # noqa: ANN401 (as above)
    """Forward passes of the policy, each over a micro-batch at most, whose activations are there at the same time."""
    if "objectives" in objective:
        return sum(_passes(member.objective) for member in objective.objectives.values())
    return 2 if objective.get("kl_weight") else 1


def _copies(reference: Any) -> int:  # noqa: ANN401 (as above)
    """Whether the reference is a copy of the policy."""
    from hydra.utils import get_object

    from sempa_lightning.scoring.reference import Frozen

    nodes = [node for node in (reference, reference.get("live")) if node is not None]
    return sum(get_object(node._target_) is Frozen for node in nodes)


def _memory(device: torch.device, processes: int) -> int:
    """Bytes of a GPU, or a process's share of those of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // processes
