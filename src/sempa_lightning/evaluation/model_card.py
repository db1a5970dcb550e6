"""The README.md of an exported model: what it is, how to load it, its numbers, training and licences."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from sempa_lightning.escape import for_markdown, for_markdown_code

Format = Literal["adapter", "merged", "sentence-transformers"]

_PACKAGE = "pkg://sempa_lightning/assets/"
_WHAT: dict[Format, str] = {
    "adapter": "the trained adapter alone, in PEFT format",
    "merged": "the causal language model with all that was learnt in its weights, in Hugging Face format",
    "sentence-transformers": "the sentence encoder, readout included, for sentence-transformers 5.6 or later",
}
_LIBRARIES: dict[Format, str] = {
    "adapter": "peft",
    "merged": "transformers",
    "sentence-transformers": "sentence-transformers",
}
_PREPARATIONS = {
    "end_with_full_stop": "one that does not end with . ? \" or ' gets a full stop; double quotes become single ones,"
    " and a final question mark a full stop",
    "as_it_is": "as they are",
    "str": "as they are",
}
_TASKS: dict[Format, str] = {
    "adapter": "text-generation",
    "merged": "text-generation",
    "sentence-transformers": "sentence-similarity",
}


@dataclass(frozen=True)
class ModelCard:
    """What a card is written from: the files of a run.

    Attributes:
        config: The run's resolved config.
        manifest: Its manifest: command, commit, data counts.
        summary: One number for each key, such as `before/sts/demo/spearman`.
        locations: Folder or Hub name of each format that was exported.
    """

    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    summary: Mapping[str, float]
    locations: Mapping[Format, str]

    def text(self, which: Format) -> str:
        """Write the card of one format, in Markdown with the Hub's metadata on top."""
        title = f"{for_markdown(self._base.rstrip('/').rpartition('/')[2])}, trained with sempa_lightning"
        about = f"This is {_WHAT[which]}, of a language model trained for better sentence embeddings."
        blocks = [
            f"---\n{yaml.safe_dump(self._metadata(which), sort_keys=False)}---",
            f"# {title}",
            about,
            "## Load it",
            *(f"{_sentence_case(_WHAT[name])}:\n\n```python\n{self._snippet(name)}\n```" for name in self.locations),
            "## Readout",
            self._readout(),
            *self._numbers(),
            "## Training",
            _table(("", ""), self._training()),
            "## Licences",
            "\n".join(f"* {line}" for line in self._licences()),
        ]
        return "\n\n".join(blocks) + "\n"

    @property
    def _base(self) -> str:
        """Path of the base model; where the run made one with fresh weights, the name of what made it."""
        node = self.config["model"]
        return str(node.get("path") or _name(node))

    def _metadata(self, which: Format) -> dict[str, object]:
        metadata: dict[str, object] = {"library_name": _LIBRARIES[which], "pipeline_tag": _TASKS[which]}
        if self._base.startswith(_PACKAGE):
            metadata["license"] = "apache-2.0"
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", self._base) and not Path(self._base).exists():
            metadata["base_model"] = self._base
        return metadata | {"tags": ["sentence-embeddings", "sempa"]}

    def _snippet(self, which: Format) -> str:
        where = self.locations[which]
        if which == "sentence-transformers":
            return (
                "from sentence_transformers import SentenceTransformer\n"
                f'model = SentenceTransformer("{where}")\n'
                'vectors = model.encode(["A sentence.", "Another one."])'
            )
        if which == "merged":
            return (
                "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
                f'model = AutoModelForCausalLM.from_pretrained("{where}")\n'
                f'tokenizer = AutoTokenizer.from_pretrained("{where}")'
            )
        in_package = self._base.startswith("pkg://")
        base = f'local_path("{self._base}")' if in_package else f'"{self._base}"'
        dtype = self.config["model"].get("dtype", "float32")
        return (
            ("from sempa_lightning.assets import local_path\n" if in_package else "")
            + "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n"
            + f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}, dtype="{dtype}"), '
            + f'"{where}")'
        )

    def _readout(self) -> str:
        readout = self.config["readout"]
        template = readout.get("template", readout)
        prompts = [template["text"]] if "template" in readout else readout["texts"]
        system = template.get("system")
        turn = "without a system turn" if system is None else f"after the system turn {for_markdown_code(system)}"
        how = f"as a user turn of the model's chat template, {turn}" if template.get("chat") else "as plain text"
        if any("\n" in text or "`" in text for text in prompts):
            prompt = "\n\n".join(["Prompt:", *map(_fenced, prompts), f"It is read {how}"])
        else:
            prompt = f"Prompt {', '.join(map(for_markdown_code, prompts))}, read {how}"
        name = _name(readout["preprocess"])
        return (
            f"{prompt}. Sentences: {_PREPARATIONS.get(name, f'prepared by {for_markdown_code(name)}')}. Vectors: layer"
            f" {readout['layer']}, pooling {for_markdown_code(_name(readout['pooling']))}, not normalized."
        )

    def _numbers(self) -> Iterator[str]:
        """The section of the numbers before and after training, if the run has taken any."""
        pairs = {
            name: (before, self.summary[f"after/{name}"])
            for name, before in _stage(self.summary, "before")
            if f"after/{name}" in self.summary
        }
        if pairs:
            yield "## Numbers"
            yield _table(
                ("metric", "before", "after", "change"),
                ((name, f"{old:.4g}", f"{new:.4g}", f"{new - old:+.4f}") for name, (old, new) in pairs.items()),
            )

    def _training(self) -> Iterator[tuple[str, str]]:
        yield "base model", for_markdown_code(self._base)
        for part in ("adapter", "objective", "reference", "optimizer", "scheduler"):
            if part in self.config:
                yield part, for_markdown_code(_describe(self.config[part]))
        yield "prompt", for_markdown_code(self.config["prompt"]["text"])
        for part, counts in self.manifest.get("data", {}).items():
            if isinstance(counts, Mapping) and "kept" in counts:
                yield (
                    f"data, {part}",
                    f"{counts['kept']} rows kept of {counts['read']}, {counts['anchors']} anchors",
                )
        for name, value in _stage(self.summary, "train"):
            yield name, f"{value:g}"
        for name in ("seed", "commit", "command"):
            if self.manifest.get(name) is not None:
                yield name, for_markdown_code(str(self.manifest[name]))

    def _licences(self) -> Iterator[str]:
        if self._base.startswith(_PACKAGE):
            yield (
                "The base model ships with sempa_lightning and is under its licence, Apache-2.0; it was"
                " pre-trained on articles of the English Wikipedia (CC BY-SA 3.0)."
            )
        else:
            yield f"These weights derive from {for_markdown_code(self._base)} and are under its licence."
        if any(text.startswith(f"{_PACKAGE}demo/") for text in _strings(self.config.get("data"))):
            yield "The training data were written for sempa_lightning and are under its licence, Apache-2.0."


def _fenced(text: str) -> str:
    """A code block that holds a text as it is."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _sentence_case(text: str) -> str:
    return text[0].upper() + text[1:]


def _stage(summary: Mapping[str, float], stage: str) -> Iterator[tuple[str, float]]:
    return ((key.removeprefix(f"{stage}/"), value) for key, value in summary.items() if key.startswith(f"{stage}/"))


def _name(node: Mapping[str, Any]) -> str:
    """Name of the class or function of a config node."""
    target = str(node["path"] if node["_target_"] == "hydra.utils.get_method" else node["_target_"])
    return target.rpartition(".")[2]


def _describe(node: object) -> str:
    """A config node as the call that it stands for."""
    if not isinstance(node, Mapping):
        return str(node)
    arguments = (f"{key}={_describe(value)}" for key, value in node.items() if not key.startswith("_"))
    return f"{_name(node) if '_target_' in node else ''}({', '.join(arguments)})"


def _strings(node: object) -> Iterator[str]:
    """All strings inside a config node."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, (Mapping, list)):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _strings(value)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join(map(line, (head, ("---",) * len(head), *rows)))
