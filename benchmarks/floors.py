"""How far is a training step from what its arithmetic and its bytes allow? The `small` workload, reference cached.

SEMPA_DATA_DIR=<folder> python benchmarks/floors.py [--steps 8] [--threads 2]
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from peers import BATCH_SIZE, attach_lora, component, fit_length, fit_rows, gpt2_tokenizer, small_model, tell
from sempa_lightning.losses.plackett_luce import plackett_luce
from sempa_lightning.models.causal_lm import decoder
from sempa_lightning.scoring.head import lm_head
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.mask import visible
from sempa_lightning.types import PackedSequences

KINDS = {
    "matrix products": ("mm", "addmm", "bmm"),
    "attention": ("scaled_dot_product",),
    "softmax of the head": ("logsumexp", "exp_", "sub_", "neg_"),
}


def median_seconds(work: Callable[[], object], times: int) -> float:
    """Median time of a call, after one that is not counted."""
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def ceilings(tokens: int, hidden: int, inner: int) -> tuple[float, float]:
    """Floating-point operations a second of this model's widest products, and bytes a second of a copy."""
    states, weight = torch.randn(tokens, hidden), torch.randn(inner, hidden)
    flops = 2 * tokens * hidden * inner / median_seconds(lambda: states @ weight.T, 50)
    block, other = torch.zeros(2**26), torch.zeros(2**26)
    return flops, 2 * block.nbytes / median_seconds(lambda: other.copy_(block), 10)


def arithmetic(policy: torch.nn.Module, sequences: PackedSequences) -> dict[str, float]:
    """Floating-point operations of a step: 2 for each weight and token, forward and backward.

    Frozen weights have no gradient of their own: backward costs them as much as forward. LoRA's cost twice that. The
    head forms its gradient in the forward pass.
    """
    backbone, tokens = decoder(policy), int(sequences.live.sum())
    sizes: Counter[str] = Counter()
    for name, parameter in backbone.named_parameters():
        if "embed" not in name and parameter.dim() == 2:
            sizes["lora" if "lora_" in name else "frozen"] += parameter.numel()
    config = backbone.config
    pairs = int(visible(sequences, None)[:, 0][sequences.live].sum())
    head = lm_head(policy).layer.weight.numel()
    return {
        "layers": 2 * 2 * tokens * sizes["frozen"],
        "LoRA": 3 * 2 * tokens * sizes["lora"],
        "attention": 3 * 2 * 2 * pairs * config.hidden_size * config.num_hidden_layers,
        "head": 2 * 2 * len(sequences.targets) * head,
    }


def kind(name: str) -> str:
    """The kind of an operation, by its name in the profile."""
    name = name.removeprefix("aten::")
    found = (
        kind for kind, parts in KINDS.items() if any(name == part or name.startswith(f"_{part}") for part in parts)
    )
    return next(found, "everything else")


def main(args: argparse.Namespace) -> None:
    """Print floors, measured time and where it goes.

    Raises:
        UserError: If the data is missing.
    """
    torch.set_num_threads(args.threads)
    tokenizer = gpt2_tokenizer()
    policy = attach_lora(small_model(tokenizer))
    layout = component("scoring/packed.yaml")
    rows = [row for _, row in fit_rows(tokenizer, fit_length(policy), BATCH_SIZE * args.steps)]
    batches = [layout(rows[at : at + BATCH_SIZE], 0) for at in range(0, len(rows), BATCH_SIZE)]

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        losses = plackett_luce(0.1 * completion_logps(policy, batch), batch.candidate_mask, batch.num_chosen)
        losses.mean().backward()
        policy.zero_grad()

    numbers = iter(range(10**9))
    seconds = median_seconds(lambda: step(next(numbers)), args.steps)
    work = [arithmetic(policy, batch.sequences) for batch in batches]
    operations = {name: statistics.median(item[name] for item in work) for name in work[0]}
    tokens = int(statistics.median(int(batch.sequences.live.sum()) for batch in batches))
    config = decoder(policy).config
    flops, bandwidth = ceilings(tokens, config.hidden_size, config.intermediate_size)
    weights = sum(parameter.nbytes for parameter in policy.parameters())
    floors = {"arithmetic": sum(operations.values()) / flops, "bytes": 2 * weights / bandwidth}
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for number in range(args.steps):
            step(number)
    spent: Counter[str] = Counter()
    for event in recorded.key_averages():
        spent[kind(event.key)] += event.self_cpu_time_total
    total = spent.total()

    print(f"{tokens} live tokens a step; ceilings {flops / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s")
    for name, value in operations.items():
        print(f"{name:<24}{value / 1e9:>8.1f} GFLOP")
    for name, value in floors.items():
        print(f"floor of {name:<15}{value:>8.3f} s{value / seconds:>7.0%} of the step")
    print(f"{'measured step':<24}{seconds:>8.3f} s")
    for name, value in spent.most_common():
        print(f"  {name:<22}{value / total:>8.0%}")
    print(json.dumps({"seconds": seconds, **{f"floor_{name}": value for name, value in floors.items()}}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    tell(partial(main, parser.parse_args()))
