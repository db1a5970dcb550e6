"""python experiments/seeds.py RUN_FOLDER…: means over runs that differ in their seed, as a Markdown table.

The standard error is the mean of the runs' own paired bootstrap errors (over test items); ± sd is over the runs.
"""

import json
import statistics
import sys
from pathlib import Path

METRICS = {
    "sts/demo/spearman": "STS demo, Spearman",
    "sts/stsb/spearman": "STS-B test, Spearman",
    "sts/sick/spearman": "SICK-R test, Spearman",
    "preference/demo/accuracy": "preference accuracy, demo test",
    "generation/demo/perplexity": "perplexity, demo text",
    "generation/demo/next_token_accuracy": "next-token accuracy, demo text",
    "generation/demo/kl": "token KL from the reference",
}


def main(folders: list[str]) -> None:
    """Print one row for each metric that all runs have."""
    summaries = [json.loads((Path(folder) / "summary.json").read_text()) for folder in folders]
    print(f"| {len(folders)} runs | before | after | change ± sd | s.e. of the change |")
    print("|---|---:|---:|---:|---:|")
    for key, name in METRICS.items():
        if any(f"after/{key}" not in summary for summary in summaries):
            continue
        before, after, error = (
            statistics.mean(summary[f"{stage}/{key}"] for summary in summaries)
            for stage in ("before", "after", "change_se")
        )
        changes = [summary[f"after/{key}"] - summary[f"before/{key}"] for summary in summaries]
        sd = statistics.stdev(changes) if len(changes) > 1 else 0.0
        form = ".1f" if "perplexity" in key else ".3f"
        print(
            f"| {name} | {before:{form}} | {after:{form}} | {after - before:+{form}} ± {sd:{form}} | {error:{form}} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
