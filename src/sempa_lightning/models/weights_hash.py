"""A name for what a model computes: a hash of its weights."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sempa_lightning.checksums import read_checked, write_checked
from sempa_lightning.models.causal_lm import causal_lm
from sempa_lightning.models.sharding import anywhere, whole


def weights_hash(policy: nn.Module, weights: Mapping[str, Tensor], memory: Path | None) -> str:
    """SHA-256 of the model's config and of weights: names, dtypes, shapes and values.

    Weights that the library read from files are hashed once, and the hash is remembered under the identity of the
    files: path, size and time of change, or name and commit on the Hub.

    Args:
        policy: The model.
        weights: Those of its weights that count.
        memory: Folder that remembers hashes; None where weights may have changed since they were read.
    """
    files = None if memory is None else _files(policy)
    if memory is None or files is None:
        return _hash(policy, weights)
    # What PEFT adds or replaces is read from elsewhere, or drawn at random.
    adapter = {name: weight for name, weight in weights.items() if "lora_" in name or "modules_to_save" in name}
    base = {name: weight for name, weight in weights.items() if name not in adapter}
    dtypes = sorted({str(weight.dtype) for weight in base.values()})
    note = memory / hashlib.sha256(repr((files, dtypes, sorted(base))).encode()).hexdigest()
    known = read_checked(note)
    if anywhere(known is None, policy):
        known = _hash(policy, base)
        write_checked(note, known)
    assert known is not None
    return known if not adapter else _hash(policy, adapter, known)


def _files(policy: nn.Module) -> object:
    """What tells the files of the weights from others; None if the weights come from none."""
    config = causal_lm(policy).config
    folder = Path(config.name_or_path)
    if config.name_or_path and folder.is_dir():
        stats = [(str(path.resolve()), path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
        return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    commit = getattr(config, "_commit_hash", None)
    return commit and (config.name_or_path, commit)


def _hash(policy: nn.Module, weights: Mapping[str, Tensor], start: str = "") -> str:
    digest = hashlib.sha256(start.encode())
    config = causal_lm(policy).config.to_dict()
    # Where the model lies, and which library wrote it, changes nothing.
    counts = {name: config[name] for name in config.keys() - {"_name_or_path", "transformers_version"}}
    digest.update(repr(sorted(counts.items())).encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found = whole(weight.detach()).cpu().clone(memory_format=torch.contiguous_format)  # whose memory NumPy may keep
        digest.update(found.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
