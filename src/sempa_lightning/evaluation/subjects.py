"""What is evaluated: a bare model, or what a run trained and the base that it started from."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.artifacts import RunDir
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Subject
from sempa_lightning.files import read_object
from sempa_lightning.models.adapters import Adapter, SavedAdapter
from sempa_lightning.models.causal_lm import LanguageModel, causal_lm, load_causal_lm, placed
from sempa_lightning.models.embedding_cache import EmbeddingCache, weights_name
from sempa_lightning.models.plain_checkpoint import load_plain
from sempa_lightning.models.readout import SentenceReadout
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.layout import Layout
from sempa_lightning.scoring.reference import AdapterDisabled, Lent, Reference


@runtime_checkable
class Subjects(Protocol):
    """Subjects by label; what they are made of is loaded when one is first lent."""

    @property
    def labels(self) -> Sequence[str]:
        """Their labels, the base first."""

    def lend(self, label: str) -> contextlib.AbstractContextManager[Subject]:
        """Lend a subject."""


class EmbeddingCaches:
    """The cache of each subject, whose weights are hashed once.

    Args:
        folder: Where the caches are.
        keep_layers: Layers that are kept beside those that a readout asks for (see `EmbeddingCache`).
    """

    def __init__(self, folder: Path, keep_layers: Sequence[int]) -> None:
        self._folder = folder
        self._keep_layers = keep_layers
        self._caches: dict[str, EmbeddingCache] = {}

    def of(self, label: str, model: nn.Module) -> EmbeddingCache:
        """The cache of a subject as its model is now."""
        if label not in self._caches:
            self._caches[label] = EmbeddingCache(self._folder, weights_name(model), self._keep_layers)
        return self._caches[label]

    def forget(self, label: str) -> None:
        """Hash the weights of a subject anew: they have changed."""
        self._caches.pop(label, None)


@dataclass(frozen=True)
class View:
    """How models are looked at, whichever they are.

    Attributes:
        readout: How embeddings are read out.
        prompt: How a paraphrase is asked for.
        layout: How candidates are laid out in a forward pass.
        device: Where models go; null is the GPU if there is one, else the CPU.
        caches: Embeddings that are known.
    """

    readout: SentenceReadout
    prompt: PromptTemplate
    layout: Layout
    device: str | None
    caches: EmbeddingCaches

    def of(self, label: str, model: nn.Module, tokenizer: PreTrainedTokenizerBase, reference: Reference) -> Subject:
        """The subject that a model is."""
        cache = self.caches.of(label, model)
        return Subject(model, tokenizer, self.readout, self.prompt, reference, self.layout, cache)


class BareModel:
    """A model that no run of ours has trained; it is its own reference.

    Args:
        load: Loads it.
        view: How it is looked at.
    """

    labels = ("before",)

    def __init__(self, load: Callable[[], LanguageModel], view: View) -> None:
        self._load = load
        self._view = view

    @contextlib.contextmanager
    def lend(self, label: str) -> Iterator[Subject]:
        """Lend it."""
        model, tokenizer = self._loaded
        yield self._view.of(label, model, tokenizer, Lent(model))

    @cached_property
    def _loaded(self) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        model, tokenizer = self._load()
        return placed(model, self._view.device), tokenizer


class TrainedRun:
    """The base of a run (`before`) and what the run trained (`after`), whose reference is the base.

    A run that added an adapter needs one model in memory: the base is the policy with its adapter switched off. Any
    other needs two.

    Args:
        run: Its folder.
        load: Loads the model that the run has loaded.
        adapter: Makes a policy of it, as the run did.
        view: How both are looked at.
        dtype: Dtype of the weights where the run trained all of them.
        trust_remote_code: Run custom code of the model where the run trained all weights.
        checkpoint: A checkpoint of the run's training, instead of what it saved at its end.
    """

    labels = ("before", "after")

    def __init__(
        self,
        run: RunDir,
        load: Callable[[], LanguageModel],
        adapter: Adapter,
        view: View,
        *,
        dtype: str = "float32",
        trust_remote_code: bool = False,
        checkpoint: Path | None = None,
    ) -> None:
        self._run = run
        self._load = load
        self._adapter = adapter
        self._view = view
        self._dtype = dtype
        self._trust_remote_code = trust_remote_code
        self._checkpoint = checkpoint

    @contextlib.contextmanager
    def lend(self, label: str) -> Iterator[Subject]:
        """Lend the base or the policy."""
        policy, tokenizer = self._policy
        if label == "after":
            reference = AdapterDisabled(policy, trained=True) if self._switches else Lent(self._base)
            yield self._view.of(label, policy, tokenizer, reference)
        elif self._switches:
            with AdapterDisabled(policy, trained=True).active(policy):
                yield self._view.of(label, policy, tokenizer, Lent(policy))
        else:
            yield self._view.of(label, self._base, tokenizer, Lent(self._base))

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Let the policy be what another checkpoint holds.

        Raises:
            UserError: If its weights are not those that the run trains.
        """
        _load_weights(self._policy[0], checkpoint)
        self._view.caches.forget("after")

    @property
    def _switches(self) -> bool:
        """Whether the base is the policy with its adapter off."""
        return isinstance(self._policy[0], PeftModel) and not isinstance(self._adapter, SavedAdapter)

    @cached_property
    def _policy(self) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        with warnings.catch_warnings():
            # peft 0.21 asks for a property that transformers 5.23 has renamed; it still answers.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            policy, tokenizer = self._ended() if self._checkpoint is None else self._started()
        return placed(policy, self._view.device), tokenizer

    @cached_property
    def _base(self) -> nn.Module:
        return placed(self._adapter.attach(self._load().model), self._view.device)

    def _started(self) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        """The policy as the checkpoint has it."""
        base, tokenizer = self._load()
        policy = self._adapter.attach(base)
        _load_weights(policy, read_checkpoint(self._checkpoint))
        return policy, tokenizer

    def _ended(self) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        """The policy as the run has saved it."""
        if self._run.adapter.is_dir():
            base, tokenizer = self._load()
            _check_base(self._run, base)
            return SavedAdapter(str(self._run.adapter)).attach(base), tokenizer
        if self._run.model.is_dir():
            return load_causal_lm(str(self._run.model), dtype=self._dtype, trust_remote_code=self._trust_remote_code)
        raise UserError(
            f"{self._run.path} has no adapter/ and no model/ yet: let it end, go on with train"
            f" resume={self._run.path}, or measure its last checkpoint with checkpoint=last.ckpt"
        )


def read_checkpoint(path: Path | None) -> dict[str, Any]:
    """Read a checkpoint of a training.

    Raises:
        UserError: If there is none, or if it holds objects beside tensors and plain values.
    """
    if path is None or not path.is_file():
        raise UserError(f"no checkpoint {path}: checkpoint=last.ckpt or checkpoint=best.ckpt are those of a run")
    return load_plain(path)


def _load_weights(policy: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Put the trained weights of a checkpoint in their places."""
    state = {name.removeprefix("policy."): value for name, value in checkpoint["state_dict"].items()}
    shapes = {name: value.shape for name, value in policy.state_dict().items()}
    if misfits := [name for name, value in state.items() if shapes.get(name) != value.shape]:
        raise UserError(f"the checkpoint is of another model: it has {misfits[0]}, which does not fit this one")
    policy.load_state_dict(state, strict=False)


def _check_base(run: RunDir, base: nn.Module) -> None:
    """Refuse a base whose name is not that of the model on which the adapter was trained; folders may differ."""
    settings = run.adapter / "adapter_config.json"
    trained = read_object(settings).get("base_model_name_or_path")
    given = causal_lm(base).name_or_path
    if trained and given and Path(trained).name.lower() != Path(given).name.lower():
        raise UserError(
            f"{run.adapter} was trained on {trained}, and the model is {given}: give the former with model.path=…"
        )
