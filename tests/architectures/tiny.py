"""A tiny random model of any causal architecture of transformers, from the defaults of its config class."""

import re
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

ARCHITECTURES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCAB, POSITIONS = 400, 256

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
# Names that a config class computes from others, or that say nothing of sizes.
_DERIVED = {
    "architectures", "model_type", "transformers_version", "dtype", "_name_or_path", "qk_head_dim", "per_layer_config"
}  # fmt: skip
_REQUIRED: dict[str, dict[str, Any]] = {}
_EXTRA: dict[str, dict[str, Any]] = {}

# Sizes by the name of a config's attribute; the first pattern that is found counts.
_SIZES = (
    (r"vocab_size$", VOCAB),
    (r"^(max_position_embeddings|n_positions|n_ctx|max_seq_len|max_target_positions|context_length)$", POSITIONS),
    (r"^model_max_length$", POSITIONS),
    (r"(^|_)(kv_heads|num_key_value_heads|num_kv_heads|n_kv_heads)$", 2),
    (r"(heads|n_head|num_head)$", 4),
    (r"(num_hidden_layers|num_layers|n_layers?|encoder_layers|decoder_layers|num_(en|de)coder_layers)$", 2),
    (r"^(num_dense_layers|first_k_dense_replace|moe_layer_start_index|num_nextn_predict_layers)$", 1),
    (r"(num_experts_per_tok|num_experts_per_token|top_?k_experts|moe_topk|moe_k|moe_top_?k|num_selected_experts)$", 2),
    (r"(shared_experts?|num_shared_expert)$", 1),
    (r"(num_experts|num_local_experts|n_routed_experts|moe_num_experts|num_routed_experts|n_experts)$", 4),
    (r"(n_group|topk_group|num_expert_group)$", 1),
    (r"(intermediate_size|ffn_dim|dff|dim_ff|ffn_hidden_size|n_inner|d_inner|intermediate_dim)$", 64),
    (r"(head_dim|dim_head|head_size|d_head|d_kv|rotary_dim|_lora_rank|v_head_dim|_d_head)$", 8),
    (r"(hidden_size|d_model|n_embd|embedding_size|embed_dim|word_embed_proj_dim|hidden_dim|embedding_dim)$", 32),
    (r"(sliding_window|attention_window|window_size|attention_window_size|attention_chunk_size)$", 64),
)


def tiny_config(architecture: str) -> PretrainedConfig:
    """Return the default config of an architecture, made small, with `_EXTRA` for what the rules do not find."""
    config_class = CONFIG_MAPPING[architecture]
    extra = _EXTRA.get(architecture, {})
    return config_class(**{**_small(config_class(**_REQUIRED.get(architecture, {})).to_dict()), **extra})


def tiny_model(architecture: str) -> PreTrainedModel:
    """Build a model of an architecture with random weights, always the same."""
    config = tiny_config(architecture)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


def _small(values: dict[str, Any]) -> dict[str, Any]:
    small = {name: _value(name, value) for name, value in values.items() if name not in _DERIVED}
    small |= dict.fromkeys({"bos_token_id", "eos_token_id", "pad_token_id"} & values.keys(), 0)
    return small | _per_layer(values)


def _per_layer(values: dict[str, Any]) -> dict[str, Any]:
    """Lists with a value for each layer, cut to the layers that differ from each other, and to two at least."""
    name = next((name for name in _LAYERS if isinstance(values.get(name), int)), None)
    if name is None:
        return {}
    lists = {key: value for key, value in values.items() if isinstance(value, list) and len(value) == values[name] > 1}
    if not lists:
        return {}
    kinds = list(dict.fromkeys(zip(*(map(str, column) for column in lists.values()), strict=True)))
    columns = list(zip(*(map(str, column) for column in lists.values()), strict=True))
    kept = sorted({columns.index(kind) for kind in kinds[:4]} | {0, len(columns) - 1})
    return {name: len(kept)} | {
        key: [_value(key.removesuffix("_per_layer"), column[index]) for index in kept] for key, column in lists.items()
    }


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _small(value) if "model_type" in value else value
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return next((size for pattern, size in _SIZES if re.search(pattern, name)), value)
