"""What is trained: a LoRA adapter, an adapter that exists already, or all weights."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sempa_lightning.artifacts import RunDir
from sempa_lightning.assets import local_path
from sempa_lightning.check import Count, Share
from sempa_lightning.errors import UserError
from sempa_lightning.files import replacing_folder
from sempa_lightning.models.causal_lm import PICKLES


@runtime_checkable
class Adapter(Protocol):
    """Makes a policy of a loaded model."""

    def attach(self, model: PreTrainedModel) -> nn.Module:
        """Mark what is trainable, adding weights where needed."""


@dataclass(frozen=True)
class Lora:
    """A fresh LoRA adapter (Hu et al. 2021), which leaves the model's outputs unchanged at first.

    Attributes:
        r: Rank.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Dropout on the adapter's input.
        target_modules: Names of the layers to adapt, or `all-linear` for all linear layers but the head.
        exclude_modules: Names of layers to leave out of these, or a regular expression that their whole names match;
            null for none.
    """

    r: Count
    alpha: Count
    dropout: Share
    target_modules: str | Sequence[str]
    exclude_modules: str | Sequence[str] | None = None

    def attach(self, model: PreTrainedModel) -> nn.Module:
        """Add the adapter; only its weights, kept in float32, are trainable.

        Raises:
            UserError: If the model has no such layers.
        """
        if getattr(model, "is_loaded_in_4bit", False):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        targets, excluded = _as_peft_takes(self.target_modules), _as_peft_takes(self.exclude_modules)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            exclude_modules=excluded,
            task_type="CAUSAL_LM",
        )
        try:
            with _adapted_ends():
                policy: nn.Module = get_peft_model(model, config)
        except ValueError as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"adapter.target_modules={targets} does not fit this model: {reason}. Name such modules in"
                " adapter.exclude_modules, or set other adapter.target_modules"
            ) from error
        return policy


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter in PEFT format that training goes on from; the reference must then be a frozen copy.

    Attributes:
        path: Folder with `adapter_config.json`.
    """

    path: str

    def attach(self, model: PreTrainedModel) -> nn.Module:
        """Load the adapter as trainable.

        Raises:
            UserError: If the folder holds no adapter, one of another model, or one whose weights are a pickle.
        """
        folder = local_path(self.path)
        if not (folder / "adapter_config.json").is_file():
            raise UserError(f"no adapter_config.json in {folder}: adapter.path must be a PEFT folder")
        if not (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
            raise UserError(f"adapter.path: {folder} has no {SAFETENSORS_WEIGHTS_NAME}. {PICKLES}")
        try:
            with _adapted_ends():
                policy: nn.Module = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        except SafetensorError as error:
            raise UserError(f"adapter.path: {folder / SAFETENSORS_WEIGHTS_NAME} is damaged. Copy it again.") from error
        except (RuntimeError, ValueError) as error:
            raise UserError(f"adapter.path: {folder} is of another model than this one: {_first(error)}") from error
        _restore(policy, folder / SAFETENSORS_WEIGHTS_NAME)
        return policy


@dataclass(frozen=True)
class FullFineTuning:
    """No adapter: all weights are trained."""

    def attach(self, model: PreTrainedModel) -> nn.Module:
        """Leave the model as it is."""
        policy: nn.Module = model.requires_grad_(True)
        return policy


def _as_peft_takes(names: str | Sequence[str] | None) -> str | list[str] | None:
    return names if names is None or isinstance(names, str) else list(names)


@torch.no_grad()
def _restore(policy: nn.Module, file: Path) -> None:
    """Set the adapter's weights to those of the file of the same names.

    PEFT renames weights of some architectures as it loads them, as transformers does with old checkpoints, and leaves
    out those that it then does not find.
    """
    saved = load_file(file)
    own = {name.replace(".default.", "."): parameter for name, parameter in policy.named_parameters()}
    if saved.keys() <= own.keys():
        for name, weight in saved.items():
            own[name].copy_(weight)


def _first(error: Exception) -> str:
    """Return the first thing that an error lists, whole, and how many more there are."""
    lines = [" ".join(line.split()).rstrip(".") for line in str(error).splitlines() if line.strip()]
    listed = lines[1:] or lines
    return listed[0] + (f" (and {len(listed) - 1} more)" if len(listed) > 1 else "")


@contextlib.contextmanager
def _adapted_ends() -> Iterator[None]:
    """Leave out PEFT's warning on an adapted end of a model with tied ends: `merged` unties them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*`tie_word_embeddings=True`.*")
        yield


def merged(policy: PeftModel) -> PreTrainedModel:
    """Merge the adapter into the weights, in place; embeddings and head of which one is adapted share none afterwards.

    A matrix that the two share would pass the update of the one on to the other.
    """
    model: PreTrainedModel = policy.get_base_model()
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    if any(isinstance(end, BaseTunerLayer) for end in ends):
        weights = [end.get_base_layer() if isinstance(end, BaseTunerLayer) else end for end in ends if end is not None]
        if len({weight.weight.data_ptr() for weight in weights}) < len(weights):
            weights[-1].weight = nn.Parameter(weights[-1].weight.detach().clone(), requires_grad=False)
            for config in (model.config, model.config.get_text_config()):
                config.tie_word_embeddings = False
    return policy.merge_and_unload()


def save_policy(
    policy: nn.Module, tokenizer: PreTrainedTokenizerBase, run: RunDir, trained: Mapping[str, Tensor] | None = None
) -> Path:
    """Write what was trained: the adapter in PEFT format, or the whole model in Hugging Face format.

    Args:
        policy: The policy.
        tokenizer: Its tokenizer.
        run: Whose folder they go to.
        trained: The trained weights by name, where this process holds a part of them only.

    Returns:
        The folder, replaced as a whole.
    """
    folder = run.adapter if isinstance(policy, PeftModel) else run.model
    with replacing_folder(folder) as temporary:
        # PEFT would add the frozen embeddings where they, or the head, have an adapter.
        options = {"save_embedding_layers": False} if isinstance(policy, PeftModel) else {}
        policy.save_pretrained(str(temporary), state_dict=trained, **options)  # type: ignore[operator]
        tokenizer.save_pretrained(str(temporary))
    return folder
