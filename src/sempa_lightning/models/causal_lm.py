"""Any decoder-only language model of the Hugging Face library, with its tokenizer."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError
from sempa_lightning.models.dtype import dtype_named
from sempa_lightning.models.vocabulary import check_vocabulary

# Attributes of configs that limit the number of positions; models without any of them, such as recurrent ones and those
# with ALiBi, have no limit.
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")

# How transformers names the permission to run code of a model, in arguments and in errors.
_REMOTE_CODE = "trust_remote_code"

# The end of an error about a folder without safetensors.
PICKLES = (
    "Pickles (.bin, .pt, .pth) can run code and are not read: if you trust one, convert it with torch.load(…,"
    " weights_only=True) and safetensors.torch.save_file(…)."
)


class LanguageModel(NamedTuple):
    """A causal language model and the tokenizer that belongs to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_causal_lm(  # noqa: PLR0913 (the keys of a config group)
    path: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    chat_template: str | None = None,
    load_in_4bit: bool = False,
    dropout: bool = False,
    gradient_checkpointing: bool = False,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a model and its tokenizer from a folder, from the package (`pkg://`) or from the Hub.

    Args:
        path: A local folder, a `pkg://` location or a Hub name.
        revision: Commit, tag or branch on the Hub.
        dtype: Dtype of the weights, as torch names it; `auto` is bfloat16 where this machine's GPU, or else its CPU,
            computes it natively, and float32 elsewhere.
        chat_template: Replaces the tokenizer's own chat template.
        load_in_4bit: Quantise to 4 bits with bitsandbytes (QLoRA).
        dropout: Leave the model's dropout on. Off by default, as in the paper's run: policy and reference then
            agree exactly at the first step.
        gradient_checkpointing: Keep the activations at the borders of layers only and compute the others again in
            backward: less memory, about a third more time.
        attn_implementation: Attention kernel, as transformers names it: eager, sdpa, flash_attention_2, …; null lets
            transformers choose.
        trust_remote_code: Run the code that comes with a model whose class transformers does not know. It is never
            asked for at the terminal.

    Raises:
        UserError: If the model is unknown, gated or out of reach, if its weights are pickles, if it has code of its own
            that is not trusted, if torch has no such dtype, if bitsandbytes or the attention kernel is missing, or if
            the tokenizer does not fit.
    """
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    options = {**source, "dtype": dtype_named(dtype), "use_safetensors": True}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    if load_in_4bit:
        options["quantization_config"] = _four_bits(options["dtype"])
    try:
        location = _location(path)
        transformers_logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(location, **source)
        model = AutoModelForCausalLM.from_pretrained(location, **options)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(_reason(path, error, attn_implementation)) from error
    _refuse_adapter(path, model)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    check_vocabulary(model, tokenizer)
    _limit(tokenizer, max_positions(model))
    if dropout:
        model.train()  # it comes in evaluation mode, and Lightning leaves a model in the mode it finds
    else:
        disable_dropout(model)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()  # in evaluation mode layers keep everything
    return LanguageModel(model, tokenizer)


def outline(
    path: str, *, revision: str | None = None, dtype: str = "float32", trust_remote_code: bool = False
) -> PreTrainedModel:
    """What `load_causal_lm` would load, without weights: parameters on the meta device. Only the config is read.

    Args:
        path: As there.
        revision: As there.
        dtype: As there.
        trust_remote_code: As there.

    Raises:
        UserError: If the model is unknown, gated or out of reach, or if torch has no such dtype.
    """
    options = {"dtype": dtype_named(dtype), "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(_location(path), revision=revision, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **options)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(_reason(path, error)) from error
    return model


def disable_dropout(model: nn.Module) -> None:
    """Set the rate of every dropout in the model to 0, whatever mode it is in."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # Functional dropout takes its rate from a plain number: attention_dropout, dropout, layerdrop, …
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode; afterwards every submodule has its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def check_device(device: str | None) -> None:
    """Refuse a device that is not here.

    Raises:
        UserError: If torch knows no such device, or cannot put a tensor there.
    """
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(
            f"device: {device!r} cannot be used ({reason}). Set device=cpu, or device=cuda:<n> for one of"
            f" {torch.cuda.device_count()} GPUs."
        ) from error


def placed(model: nn.Module, device: str | None) -> nn.Module:
    """Bring a model to a device, to be looked at: in evaluation mode and without gradients.

    Args:
        model: The model.
        device: As torch names it; null is the GPU if there is one, else the CPU.
    """
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval().requires_grad_(False)


def causal_lm(policy: nn.Module) -> PreTrainedModel:
    """The language model inside a policy; its adapter stays in place."""
    model: PreTrainedModel = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    return model


def decoder(policy: nn.Module) -> nn.Module:
    """Return the policy without its language-model head: from token ids to hidden states."""
    model: Any = causal_lm(policy)
    inner: nn.Module = model.base_model
    if id(inner) != id(model):
        return inner
    embeddings = model.get_input_embeddings()  # some classes misname the part that holds them
    return next((part for part in model.children() if any(module is embeddings for module in part.modules())), inner)


def decoder_layers(policy: nn.Module) -> nn.ModuleList:
    """The policy's layers, first to last: the outermost list of modules that has as many as the config says.

    Raises:
        UserError: If the model keeps no such list.
    """
    inner: Any = decoder(policy)
    for module in inner.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers(policy):
            return module
    raise UserError(f"{type(inner).__name__} keeps its layers in no list: this readout cannot steer it")


def num_layers(policy: nn.Module) -> int:
    """How many layers the policy has."""
    return int(causal_lm(policy).config.get_text_config(decoder=True).num_hidden_layers)


@contextlib.contextmanager
def eager_attention(policy: nn.Module) -> Iterator[None]:
    """Let the policy's attention be computed so that its weights can be had; afterwards as before."""
    model = causal_lm(policy)
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def max_positions(model: nn.Module) -> int:
    """Return the longest sequence that the model was built for, in tokens; `sys.maxsize` for a model without limit."""
    config: Any = causal_lm(model).config.get_text_config()
    limits = [getattr(config, name, None) for name in _POSITIONS]
    limit = next((int(number) for number in limits if number), sys.maxsize)
    # RoBERTa and its kin count positions from behind the padding index of their table.
    tables = [m for name, m in model.named_modules() if isinstance(m, nn.Embedding) and "position" in name]
    reserved = [table.padding_idx + 1 for table in tables if table.padding_idx is not None]
    return limit - max(reserved, default=0)


def _location(path: str) -> str:
    """The folder that the path names, else the path itself, which must then be a name on the Hub."""
    folder = local_path(path)
    if folder.is_dir():
        _check_kind(path, folder)
        return str(folder)
    if path.startswith(("/", ".", "~", "pkg://")):
        raise UserError(f"no folder {folder}: model.path is a folder with config.json and weights or a Hub name")
    return path


def _check_kind(path: str, folder: Path) -> None:
    """Refuse a folder that holds something else than a whole model.

    Raises:
        UserError: If it is an adapter, a run or a sentence encoder.
    """
    if (folder / "config.yaml").is_file() and not (folder / "config.json").is_file():
        kinds = {"model": "model.path={}", "adapter": "adapter=saved reference=frozen adapter.path={}"}
        saved = [words.format(folder / name) for name, words in kinds.items() if (folder / name).is_dir()]
        remedy = f"Set {saved[0]}" if saved else "Give its base model"
        raise UserError(f"model.path={path} is a run folder: {remedy}, or evaluate, embed and export with run={path}")
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"model.path={path} holds an adapter (adapter_config.json): set model.path to its base model and"
            f" adapter=saved reference=frozen adapter.path={path}, or export it merged"
        )
    if (folder / "modules.json").is_file() and (folder / "config_sentence_transformers.json").is_file():
        raise UserError(
            f"model.path={path} is a sentence-transformers folder, whose readout is not read here: open it with"
            " SentenceTransformer(…), or give the merged model or the run that it was exported from"
        )


def _refuse_adapter(path: str, model: PreTrainedModel) -> None:
    """Refuse an adapter on the Hub, which transformers loads together with its base; of a folder the files tell."""
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UserError(
            f"model.path={path} is an adapter: set model.path to its base model and adapter=saved reference=frozen"
            " adapter.path=<a folder with the adapter>"
        )


def _four_bits(dtype: torch.dtype) -> Any:  # noqa: ANN401 (a config object of transformers)
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise UserError("model.load_in_4bit needs bitsandbytes: pip install 'sempa-lightning[qlora]'")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _limit(tokenizer: PreTrainedTokenizerBase, positions: int) -> None:
    """Let the tokenizer name the model's limit of tokens, where there is one."""
    if positions < sys.maxsize:
        tokenizer.model_max_length = positions


def _reason(path: str, error: Exception, attn_implementation: str | None = None) -> str:
    text = str(error)
    if attn_implementation is not None and "ttention" in text:
        return f"model.attn_implementation={attn_implementation}: {' '.join(text.split())}"
    if "gated" in text or "401" in text or "403" in text:
        return f"{path} is gated: ask for access on its Hub page and run `hf auth login`, or give model.path=<folder>"
    if _REMOTE_CODE in text:
        return (
            f"model.trust_remote_code: {path} comes with code of its own; nothing of it was run. If you trust it, set"
            " model.trust_remote_code=true, in Python load(…, trust_remote_code=True)."
        )
    if "no file named" in text or "cannot be loaded with `safetensors`" in text:
        return f"model.path: {path} has no weights in safetensors. {PICKLES}"
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return (
        f"cannot load {path}: {first_line.removesuffix('.')}. Give model.path=<a folder with config.json and"
        " weights> or a Hub name that this machine can reach."
    )
