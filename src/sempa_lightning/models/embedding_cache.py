"""Pooled vectors on disk, so that no text is read twice by the same model in the same way."""

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sempa_lightning.checksums import checksum, discard
from sempa_lightning.files import replacing
from sempa_lightning.models.prompt_tokens import PromptTokens
from sempa_lightning.models.readout import Readout
from sempa_lightning.models.readout_name import function_name
from sempa_lightning.models.weights_hash import weights_hash

# Vectors of one text by layer.
Vectors = dict[int, Tensor]

# Version of what a file holds; files of another version are not read.
_FORMAT = 2


class _DamagedError(Exception):
    """A file does not hold what was written."""


class EmbeddingCache:
    """Maps (weights, readout without its layer, prompt tokens) to one vector for each layer.

    Each call of `Embedder.encode` adds one file of its own, complete or not there at all: any number of processes may
    share a folder. Each layer carries a checksum, and so do the keys: a file that does not fit is removed, and what it
    held is computed again. Functions, such as poolings, are known by name: after a change in one of your own, take a
    new folder.

    Args:
        folder: Where the files lie; made when something is written.
        weights: A name for what the model computes (see `weights_name`); it must not change meanwhile.
        keep_layers: Layers whose vectors are kept beside those that a readout asks for, so that another readout of
            the same prompt finds them; the last is -1.
    """

    def __init__(self, folder: Path, weights: str, keep_layers: Sequence[int] = ()) -> None:
        self._folder = folder
        self.weights = weights
        self.keep_layers = list(keep_layers)

    def get(self, readout: Readout, prompts: Sequence[PromptTokens], layers: Sequence[int]) -> dict[int, Vectors]:
        """Vectors of the prompts, by place in the sequence, that are there in all the layers."""
        places: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(_key(prompt), []).append(place)
        found: dict[int, Vectors] = {}
        for path in sorted(self._part(readout).glob("*.safetensors")):
            try:
                read = _read(path, places.keys(), layers)
            except (_DamagedError, SafetensorError):
                discard(path, "embedding its texts again")
                continue
            except FileNotFoundError:  # another process has just removed it
                continue
            for key, vectors in read:
                found |= {place: vectors for place in places[key] if place not in found}
        return found

    def put(self, readout: Readout, prompts: Sequence[PromptTokens], vectors: Vectors) -> None:
        """Add vectors, one row for each prompt."""
        keys = [_key(prompt) for prompt in prompts]
        tensors = {str(layer): rows.contiguous() for layer, rows in vectors.items()}
        part = self._part(readout)
        about = {layer: _tensor_checksum(part.name, layer, rows) for layer, rows in tensors.items()}
        about["keys"] = " ".join(keys)
        with replacing(part / f"{uuid.uuid4().hex}.safetensors") as path:
            save_file(tensors, path, about | {"checksum": _about_checksum(part.name, about)})

    def _part(self, readout: Readout) -> Path:
        """Folder of all that one model made of one kind of readout."""
        # Prompt tokens say all of template and pre-processing, but not what others the steering reads.
        names = [_FORMAT, self.weights, function_name(readout.pooling), readout.attention, repr(readout.steering)]
        if readout.steering is not None:
            names.append(function_name(readout.preprocess))
        return self._folder / hashlib.sha256(repr(names).encode()).hexdigest()[:32]


def weights_name(policy: nn.Module) -> str:
    """Hash of all that counts for what the policy computes: config, weights, and which adapters are on."""
    adapters = [
        (name, module.disable_adapters, module.active_adapters, getattr(module, "scaling", None))
        for name, module in policy.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    weights = weights_hash(policy, policy.state_dict(), None)
    return hashlib.sha256(f"{weights} {adapters}".encode()).hexdigest()


def _read(path: Path, wanted: Collection[str], layers: Sequence[int]) -> list[tuple[str, Vectors]]:
    """Read the wanted vectors of a file that has all the layers.

    Raises:
        _DamagedError: If what is read does not fit its checksum.
    """
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        if about.pop("checksum", None) != _about_checksum(path.parent.name, about):
            raise _DamagedError
        keys = about["keys"].split(" ")
        if not any(key in wanted for key in keys) or not {*map(str, layers)} <= about.keys():
            return []
        tensors = {layer: file.get_tensor(str(layer)) for layer in layers}
    for layer, tensor in tensors.items():
        if about[str(layer)] != _tensor_checksum(path.parent.name, str(layer), tensor):
            raise _DamagedError
    return [
        (key, {layer: tensor[row] for layer, tensor in tensors.items()})
        for row, key in enumerate(keys)
        if key in wanted
    ]


def _about_checksum(part: str, about: Mapping[str, str]) -> str:
    return checksum(part, json.dumps(about, sort_keys=True).encode())


def _tensor_checksum(part: str, layer: str, rows: Tensor) -> str:
    return checksum(f"{part}/{layer}: {rows.dtype} {tuple(rows.shape)}", rows.numpy().data.cast("B"))


def _key(prompt: PromptTokens) -> str:
    content = (prompt.ids, prompt.text, prompt.placeholder)
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()
