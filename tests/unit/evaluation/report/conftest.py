"""Evaluation folders, written by hand."""

import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

PROMPT_EOL = {
    "_target_": "sempa_lightning.models.embedder.Readout",
    "template": {
        "_target_": "sempa_lightning.prompts.template.PromptTemplate",
        "text": 'This sentence : "{sentence}" means in one word:"',
    },
    "layer": -1,
    "pooling": {"_target_": "sempa_lightning.pooling.last_token.last_token", "_partial_": True},
}


def write_evaluation(folder, results, *, config=None, manifest=None, summary=None, items=None):
    """Write a folder.

    Args:
        results: `subject/suite/task` to the content of its JSON.
        items: The same places to tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model": {"path": "pkg://sempa_lightning/assets/nano"}, "readout": PROMPT_EOL, "seed": 0} | (config or {})
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    manifest = {
        "command": "python -m sempa_lightning.evaluate",
        "commit": "abc123",
        "seed": 0,
        "hardware": {"machine": "x86_64", "cpus": 2, "threads": 1, "gpus": []},
        "versions": {"torch": "2.13.0"},
    } | (manifest or {})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "summary.json").write_text(json.dumps(summary or {}))
    for place, content in results.items():
        path = folder / "results" / f"{place}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    for place, tensors in (items or {}).items():
        path = folder / "items" / f"{place}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: torch.as_tensor(values) for name, values in tensors.items()}, path)
    return folder


@pytest.fixture
def write():
    return write_evaluation


@pytest.fixture
def evaluation(tmp_path):
    """Base and trained: two STS tasks, two benchmarks of which one is at chance, held-out text, geometry, a failure."""
    before = {
        "sts/stsb": {"metrics": {"spearman": 0.5, "pearson": 0.4}, "notes": {"pairs": 100}, "seconds": 2.0},
        "sts/sick": {"metrics": {"spearman": 0.6, "pearson": 0.5}, "notes": {}, "seconds": 2.0},
        "harness_local/lambada": {"metrics": {"acc": 0.30}, "notes": {"at_chance": False, "chance": 0.0}},
        "harness_local/arc_easy": {"metrics": {"acc": 0.26}, "notes": {"at_chance": True, "chance": 0.25}},
        "generation/demo": {"metrics": {"perplexity": 20.0, "next_token_accuracy": 0.40, "kl": 0.0}},
        "geometry/demo": {"metrics": {"uniformity": -1.0, "isotropy": 0.4}, "notes": {"points": [[0.0, 1.0]]}},
        "tokens/demo": {
            "metrics": {"gar": 0.2},
            "notes": {
                "examples": [
                    {"sentence": "<script>alert(1)</script> a | b_c", "tokens": ["▁a", "<b>"], "own": [True, False]}
                ]
            },
        },
        "pairs/broken": {"failed": "out of memory & <time>"},
    }
    after = {
        "sts/stsb": {
            "metrics": {"spearman": 0.7, "pearson": 0.6},
            "notes": {},
            "change_se": {"spearman": 0.03, "pearson": 0.03},
        },
        "sts/sick": {
            "metrics": {"spearman": 0.7, "pearson": 0.6},
            "notes": {},
            "change_se": {"spearman": 0.04, "pearson": 0.03},
        },
        "harness_local/lambada": {"metrics": {"acc": 0.25}, "notes": {"at_chance": False}, "change_se": {"acc": 0.01}},
        "harness_local/arc_easy": {"metrics": {"acc": 0.36}, "notes": {"at_chance": False}, "change_se": {"acc": 0.01}},
        "generation/demo": {
            "metrics": {"perplexity": 22.0, "next_token_accuracy": 0.39, "kl": 0.1},
            "change_se": {"perplexity": 0.5, "next_token_accuracy": 0.02, "kl": 0.01},
        },
        "geometry/demo": {"metrics": {"uniformity": -2.0, "isotropy": 0.5}},
        "tokens/demo": {
            "metrics": {"gar": 0.3},
            "notes": {
                "examples": [{"sentence": "<script>alert(1)</script> a | b_c", "tokens": ["▁b"], "own": [False]}]
            },
        },
        "pairs/broken": {"failed": "out of memory & <time>"},
    }
    results = {f"before/{task}": result for task, result in before.items()}
    results |= {f"after/{task}": result for task, result in after.items()}
    return write_evaluation(tmp_path / "evaluation", results)
