"""What does training of 1B to 70B parameters take on each device, and how long? Counted, without weights and GPUs.

python benchmarks/footprint.py [--tokens 2048] [--utilisation 0.4] [--only 1B 8B]
"""

import argparse
import json
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from peers import component, tell
from sempa_lightning.models.causal_lm import causal_lm
from sempa_lightning.scoring.head import chunk_size
from sempa_lightning.training.footprint import Spread, Work, footprint

# Vocabulary, width, inner width, layers, heads, heads of keys and values, whether the head is the embeddings.
SHAPES = {
    "1B": (128256, 2048, 8192, 16, 32, 8, True),  # Llama-3.2-1B
    "3B": (128256, 3072, 8192, 28, 24, 8, True),  # Llama-3.2-3B
    "8B": (128256, 4096, 14336, 32, 32, 8, False),  # Llama-3-8B
    "13B": (32000, 5120, 13824, 40, 40, 40, False),  # Llama-2-13B
    "34B": (32000, 8192, 22016, 48, 64, 8, False),  # CodeLlama-34B
    "70B": (128256, 8192, 28672, 80, 64, 8, False),  # Llama-3-70B
}
SPREADS = {"ddp": Spread(8), "fsdp, 8 GPUs": Spread(8, sharded=True), "fsdp, 64 GPUs": Spread(64, sharded=True)}
GPUS = (24, 48, 80, 140)  # GiB
USABLE = 0.9  # as preflight has it
PEAK = 989e12  # bfloat16 of an H100, without sparsity: https://www.nvidia.com/en-us/data-center/h100/


def model(shape: tuple[Any, ...]) -> PreTrainedModel:
    """A Llama of a shape, in bfloat16, without weights."""
    vocab_size, width, inner, layers, heads, kv_heads, tied = shape
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=width // heads,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        bare: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return bare


def smallest(size: int) -> str:
    """The smallest GPU that has room."""
    return next((str(gpu) for gpu in GPUS if size <= USABLE * gpu * 2**30), "none")


def main(args: argparse.Namespace) -> None:
    """Print the table."""
    adapter, optimizer = component("adapter/lora.yaml"), component("optimizer/adamw.yaml")
    results = {}
    print(f"LoRA r={adapter.r}, bfloat16, {args.tokens} tokens a forward pass; GiB on each device")
    print(
        f"{'model':<6}{'strategy':<15}{'weights':>9}{'kept':>8}{'peak':>8}{'GPU':>6}{'kept*':>8}{'peak*':>8}{'GPU*':>6}"
    )
    for name in args.only or SHAPES:
        policy = adapter.attach(model(SHAPES[name]))
        logits = chunk_size(causal_lm(policy).config.vocab_size)
        work = partial(Work, args.tokens, args.tokens // 2, logits, 384, autocast=torch.bfloat16)
        found = {}
        for strategy, spread in SPREADS.items():
            plain, saving = (
                footprint(policy, optimizer, work(checkpointing=checkpointing), spread)
                for checkpointing in (False, True)
            )
            cells = [f"{plain.frozen / 2**30:>9.1f}"]
            for one in plain, saving:
                cells += [f"{one.activations / 2**30:>8.1f}{one.total / 2**30:>8.1f}{smallest(one.total):>6}"]
            print(f"{name:<6}{strategy:<15}{''.join(cells)}")
            found[strategy] = {"plain": plain.total, "checkpointing": saving.total}
        for one, label in (plain, ""), (saving, ", checkpointing"):
            operations = one.flops / args.tokens
            seconds = 1e6 * operations / (PEAK * args.utilisation)
            print(f"      {operations / 1e9:.1f} GFLOP a token{label}: {seconds:.0f} GPU seconds for a million tokens")
        results[name] = found | {"flops": plain.flops, "flops_checkpointing": saving.flops}
    print(json.dumps(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--utilisation", type=float, default=0.4)
    parser.add_argument("--only", nargs="+", choices=SHAPES)
    tell(partial(main, parser.parse_args()))
