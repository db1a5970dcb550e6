"""A tiny random model of any causal architecture of transformers, from the defaults of its config class."""

import re
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

# Encoders by default, and decoders with one value of their config changed.
_ENCODERS = ("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
    "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl")  # fmt: skip
ARCHITECTURES = (
    *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    *(f"{name}, is_decoder" for name in _ENCODERS),
)

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
VOCAB, POSITIONS = 400, 256
# Names that a config class computes from others, or that say nothing of sizes.
_DERIVED = {
    "architectures", "model_type", "transformers_version", "dtype", "_name_or_path", "qk_head_dim", "per_layer_config"
}  # fmt: skip
_MAMBA = {"mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16}
_INDEXER = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16}
_PER_LAYER_INPUT = {"vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
_CONV = {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_EXTRA: dict[str, dict[str, Any]] = {
    "bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": None, "topk_group": None},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64, "lm_head_multiplier": 0.5},
    "gemma3n_text": _PER_LAYER_INPUT,
    "gemma4_text": _PER_LAYER_INPUT,
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2": {**_CONV, "full_attn_idxs": None},
    "lfm2_moe": {**_CONV, "num_dense_layers": 1},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 16},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"n_groups": 1, "mamba_head_dim": 16, "ssm_state_size": 16, "chunk_size": 16},
    "qwen4_exp_text": {**_INDEXER, "indexer_compress_ratio": 4},
    "recurrent_gemma": {"lru_width": 32},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "local"],
        "feed_forward_size": 64,
        "attention_head_size": 8,
    },
    "xlm": {"emb_dim": 32, "causal": True},
    "xmod": {"default_language": "en_XX", "is_decoder": True},
    "zamba2": {"attention_head_dim": 16, "mamba_headdim": 16},
    "zaya": {"num_experts_per_tok": 1},
}

# Sizes by the name of a config's attribute; the first pattern that is found counts.
_SIZES = (
    (r"(vocab_size|vocab_size_per_layer_input|byte_group_vocab)$", VOCAB),
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
    name, _, variant = architecture.partition(", ")
    config_class = CONFIG_MAPPING[name]
    extra = {**_EXTRA.get(name, {}), **({variant: True} if variant else {})}
    return config_class(**{**_small(config_class().to_dict()), **extra})


def tiny_model(architecture: str) -> PreTrainedModel:
    """Build a model of an architecture with random weights, always the same."""
    config = tiny_config(architecture)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:  # else every token is about as likely as any other, and a wrong one does not show
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def _small(values: dict[str, Any]) -> dict[str, Any]:
    small = {name: _value(name, value) for name, value in values.items() if name not in _DERIVED}
    small |= dict.fromkeys({"bos_token_id", "eos_token_id", "pad_token_id"} & values.keys(), 0)
    if (heads := values.get("num_attention_heads")) and heads == values.get("num_key_value_heads"):
        small["num_key_value_heads"] = small["num_attention_heads"]
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
