"""Where the last token of a readout's prompt looks: at the begin, the template, the text or itself?"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from torch import Tensor, nn

from sempa_lightning.data.missing import why_missing
from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.task import Items, Measurement, Progress, Subject
from sempa_lightning.metrics.attention_share import part_masses, per_token, shares, shares_of_rest
from sempa_lightning.models.attention import last_token_attention
from sempa_lightning.models.causal_lm import max_positions
from sempa_lightning.models.prompt_parts import PARTS, parts_of
from sempa_lightning.models.prompt_tokens import PromptTokenizer, PromptTokens

_RESAMPLES = 1000
_DECIMALS = 5
_COLUMNS = 2
_MOST_WRITTEN_LAYERS = 16
# Okabe and Ito's colours, apart for every kind of colour vision.
_COLOURS = dict(zip(PARTS, ("#000000", "#56b4e9", "#d55e00", "#0072b2", "#cc79a7"), strict=True))


class LastTokenAttention:
    """Attention from the last token of the prompt to the parts of the prompt, at every layer.

    Roth et al. (2025) look at one sentence, the last layer, one model, and leave the begin of the sequence out. Here
    are many texts, every layer, what the begin takes up, shares of the rest, and attention by token, so that a long
    text does not win by its length. The token's attention to itself is counted apart. A readout of several prompts
    has the mean over them; what a readout does to the model while it reads is not seen.

    Args:
        sentences: Texts; equal ones are looked at once. They should be independent of each other.
        max_sentences: Texts used at most, all when null.
        example: The text that is shown token by token; it is not among those that are counted.
    """

    def __init__(
        self, sentences: Iterable[str], max_sentences: int | None = None, example: str = "A man is driving a car."
    ) -> None:
        self._sentences = sentences
        self._max_sentences = max_sentences
        self._example = example

    @property
    def missing(self) -> str | None:
        """Why the sentences cannot be read, or None."""
        return why_missing(self._sentences)

    def run(self, subject: Subject, progress: Progress) -> Measurement:
        """Look at every layer's attention; an item is a text.

        Raises:
            UserError: If there is no text.
        """
        masses, counts, cut = [], [], 0
        sentences = list(dict.fromkeys(self._sentences))[: self._max_sentences]
        if not sentences:
            raise UserError("there is no text for the last token to look at: give eval.attention.<task>.sentences some")
        for sentence in progress(sentences):
            looks = [_look(subject.model, prompt) for prompt in _prompts(subject, sentence)]
            masses.append(torch.stack([look.masses for look in looks]).mean(0))
            counts.append(torch.stack([look.counts for look in looks]).mean(0))
            cut += any(look.truncated for look in looks)
        items = {"masses": torch.stack(masses), "counts": torch.stack(counts)}
        notes = {"parts": list(PARTS), "texts": len(masses), "truncated": cut, "layers": _layers(items)}
        return Measurement(items, notes | {"example": _example(subject, self._example)})

    def metrics(self, items: Items) -> dict[str, float]:
        """Shares (0 to 1) of all attention, shares of what the begin leaves, and attention by token.

        Mean over layers, and the same of the last layer alone (`last_layer_…`).
        """
        numbers: dict[str, float] = {}
        for suffix, table, parts in (
            ("", shares(items["masses"]), PARTS),
            ("_of_rest", shares_of_rest(items["masses"]), PARTS[1:]),
            ("_per_token", per_token(items["masses"], items["counts"]), PARTS[1:-1]),
        ):
            for part in parts:
                column = table[:, PARTS.index(part)]
                numbers[f"{part}{suffix}"] = float(column.mean())
                numbers[f"last_layer_{part}{suffix}"] = float(column[-1])
        return numbers

    def picture(self, measured: Mapping[str, Measurement]) -> Figure:
        """A heat map of layers and parts for each subject, and below, the example token by token at the last layer."""
        columns = min(len(measured), _COLUMNS)
        rows = -(-len(measured) // columns)
        figure = Figure(figsize=(8, 3.4 * rows + 2.1 * len(measured)), layout="constrained")
        panels: Any = figure.subfigures(2, 1, height_ratios=[3.4 * rows, 2.1 * len(measured)])
        above, below = panels
        maps = list(above.subplots(rows, columns, squeeze=False).flat)
        for axis in maps:
            axis.set_axis_off()
        for axis, (label, measurement) in zip(maps, measured.items(), strict=False):
            image = _heat_map(axis, label, shares(measurement.items["masses"]))
        bar = above.colorbar(image, ax=maps, ticks=[0, 0.02, 0.1, 0.25, 0.5, 1])
        bar.ax.set_yticklabels(["0", "2 %", "10 %", "25 %", "50 %", "100 %"])
        bar.set_label("share of the last token's attention")
        bars = below.subplots(len(measured), 1, squeeze=False, sharey=True)[:, 0]
        for axis, (label, measurement) in zip(bars, measured.items(), strict=True):
            _token_bars(axis, label, measurement.notes["example"])
        below.supylabel("share of attention", fontsize=9)
        handles = [Patch(color=_COLOURS[part], label=part) for part in PARTS[1:]]
        bars[0].legend(handles=handles, ncols=4, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
        return figure


class _Look(NamedTuple):
    """What the last token of one prompt attends to.

    Attributes:
        masses: Attention to each part, at every layer.
        counts: Tokens of each part.
        truncated: Whether the text was too long for the model's context.
    """

    masses: Float[Tensor, "layers parts"]
    counts: Float[Tensor, " parts"]
    truncated: bool


def _look(model: nn.Module, prompt: PromptTokens) -> _Look:
    parts = torch.tensor(parts_of(prompt))
    masses = part_masses(last_token_attention(model, prompt.ids), parts, len(PARTS))
    return _Look(masses, parts.bincount(minlength=len(PARTS)).float(), prompt.truncated)


def _prompts(subject: Subject, sentence: str) -> list[PromptTokens]:
    """The prompts that a readout puts a sentence into."""
    limit = max_positions(subject.model)
    return [
        PromptTokenizer(subject.tokenizer, part.template, part.preprocess, limit)([sentence])[0]
        for part in subject.readout.parts
    ]


def _example(subject: Subject, sentence: str) -> dict[str, Any]:
    """One text token by token, in the readout's first prompt."""
    prompt = _prompts(subject, sentence)[0]
    return {
        "text": sentence,
        "tokens": [subject.tokenizer.decode([token]) for token in prompt.ids],
        "parts": [PARTS[part] for part in parts_of(prompt)],
        "attention": _plain(last_token_attention(subject.model, prompt.ids)),
    }


def _layers(items: Items) -> dict[str, dict[str, Any]]:
    """For each table of layers and parts its numbers and their 95 % intervals, by a bootstrap over texts."""
    masses, counts = items["masses"], items["counts"]
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(len(masses), (len(masses),), generator=generator) for _ in range(_RESAMPLES)]
    tables = {
        "share": (shares(masses), torch.stack([shares(masses[i]) for i in drawn])),
        "share_of_rest": (shares_of_rest(masses), torch.stack([shares_of_rest(masses[i]) for i in drawn])),
        "per_token": (per_token(masses, counts), torch.stack([per_token(masses[i], counts[i]) for i in drawn])),
    }
    ends = torch.tensor([0.025, 0.975])
    return {
        name: {"mean": _plain(mean), **dict(zip(("low", "high"), map(_plain, samples.quantile(ends, 0)), strict=True))}
        for name, (mean, samples) in tables.items()
    }


def _plain(table: Tensor) -> list[list[float]]:
    return [[round(value, _DECIMALS) for value in row] for row in table.tolist()]


def _heat_map(axis: Axes, label: str, table: Tensor) -> AxesImage:
    """Layers from bottom to top; the scale is a square root, for most shares are small beside the begin's."""
    axis.set_axis_on()
    layers = len(table)
    image = axis.imshow(table.tolist(), origin="lower", aspect="auto", cmap="cividis", norm=PowerNorm(0.5, 0, 1))
    axis.set_xticks(range(len(PARTS)), PARTS)
    step = -(-layers // _MOST_WRITTEN_LAYERS)
    axis.set_yticks(range(0, layers, step), [str(layer + 1) for layer in range(0, layers, step)])
    axis.set(title=label, ylabel="layer")
    if layers <= _MOST_WRITTEN_LAYERS:
        for layer, row in enumerate(table.tolist()):
            for place, share in enumerate(row):
                colour = "black" if share > 0.2 else "white"  # noqa: PLR2004 (where the colour map turns light)
                axis.text(place, layer, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    return image


def _token_bars(axis: Axes, label: str, example: Mapping[str, Any]) -> None:
    """Attention to each token but the first, at the last layer."""
    attention, parts = example["attention"][-1], example["parts"]
    places = range(1, len(parts))
    axis.bar(places, [attention[place] for place in places], color=[_COLOURS[parts[place]] for place in places])
    tokens = [example["tokens"][place].strip().replace("$", r"\$") or "␣" for place in places]
    axis.set_xticks(places, tokens, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_title(
        f"{label}, last layer; not shown: the first token, {100 * attention[0]:.0f} %", fontsize=9, loc="right"
    )
