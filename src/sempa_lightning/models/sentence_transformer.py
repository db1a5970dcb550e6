"""A readout in the file format of sentence-transformers, which computes our embeddings without this package.

The text around a sentence, and what is done to the sentence first, are written as the tokenizer's chat template:
sentence-transformers makes a message of every sentence if the files say so, and puts the text behind a
sentence back where truncation cut it off. Its own prompts are prefixes only, and most templates need a suffix.
"""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sempa_lightning.errors import UserError
from sempa_lightning.files import write_json
from sempa_lightning.models.causal_lm import decoder, max_positions
from sempa_lightning.models.readout import Readout, SentenceReadout
from sempa_lightning.models.user_text import UserText
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.pooling.mean import mean
from sempa_lightning.prompts.sentence import as_it_is, end_with_full_stop
from sempa_lightning.prompts.template import COPY, SLOT, PromptTemplate

_POOLING_MODES: dict[object, str] = {last_token: "lasttoken", mean: "mean"}

# The same steps as the Python function of that name, in Jinja.
_PREPROCESSING: dict[object, str] = {
    str: "",
    as_it_is: "",
    end_with_full_stop: """\
{%- if sentence and sentence[-1] not in ".?\\"'" %}{% set sentence = sentence + "." %}{% endif %}
{%- set sentence = sentence.replace('"', "'") %}
{%- if sentence.endswith("?") %}{% set sentence = sentence[:-1] + "." %}{% endif %}
""",
}

# Sentences that a wrong template would tokenise differently: ends, quotes, spaces, bytes, markup of its own.
_PROBES = (
    "",
    "A plain sentence",
    "Is this one?",
    'She said "no"',
    'Who said "go"?',
    " spaces  inside and around ",
    "two\nlines",
    "Ärger über 東京 🙂!",
    "{{ braces }} {% and %} 'quotes'",
)


def single(readout: SentenceReadout) -> Readout:
    """The one reading that sentence-transformers can do.

    Raises:
        UserError: If the readout is a mean of several prompts, or steers the model.
    """
    if len(readout.parts) != 1:
        raise UserError(
            f"sentence-transformers reads one prompt, not the mean of the {len(readout.parts)} of readout.texts"
        )
    (part,) = readout.parts
    if part.steering is not None:
        raise UserError(f"sentence-transformers cannot do {type(part.steering).__name__} of readout.steering")
    return part


def pooling_mode(readout: Readout) -> str:
    """Name of the readout's pooling in sentence-transformers.

    Raises:
        UserError: If sentence-transformers has no such pooling, or the readout takes another layer than
            the last.
    """
    if readout.layers != [-1]:
        raise UserError(f"sentence-transformers reads the last layer, this readout has readout.layer={readout.layer}")
    if (mode := _POOLING_MODES.get(_function(readout.pooling))) is None:
        raise UserError(f"sentence-transformers has no pooling like {_name(readout.pooling)} of readout.pooling")
    return mode


def with_readout(tokenizer: PreTrainedTokenizerBase, readout: Readout, max_length: int) -> PreTrainedTokenizerBase:
    """Copy the tokenizer so that its chat template writes the readout's prompt around a sentence.

    Padding is on the right, so that learned positions count as in our `Embedder`.

    Args:
        tokenizer: The model's tokenizer.
        readout: Template and pre-processing.
        max_length: Longest prompt, in tokens.

    Raises:
        UserError: If the pre-processing cannot be written as a template, or if prompts would become other
            tokens than our `Embedder` makes of them.
    """
    template = UserText(tokenizer).reader if tokenizer.is_fast else copy.deepcopy(tokenizer)
    template.padding_side = template.truncation_side = "right"
    template.model_max_length = max_length
    for text in _chat_templates(tokenizer, readout):
        template.chat_template = text
        if all(
            template.apply_chat_template([{"role": "user", "content": sentence}], return_dict=False)
            == _prompt_ids(tokenizer, readout, sentence)
            for sentence in (*_PROBES, " ".join(UserText(tokenizer).replacements))
        ):
            return template
    raise UserError(f"the readout's prompt, as a chat template of {type(tokenizer).__name__}, becomes other tokens")


def save_sentence_transformer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, readout: SentenceReadout, folder: Path
) -> None:
    """Write a folder that `SentenceTransformer(folder)` loads, with the vectors of our `Embedder`.

    Args:
        model: A causal language model without adapter; its head is left out.
        tokenizer: Its tokenizer.
        readout: How embeddings are read out of it.
        folder: Where to write; made if need be.

    Raises:
        UserError: If sentence-transformers cannot express the readout.
    """
    part = single(readout)
    mode = pooling_mode(part)
    tokenizer = with_readout(tokenizer, part, max_positions(model))
    inner: Any = decoder(model)
    inner.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if tokenizer.is_fast:  # this class reads tokenizer.json as it is; others build their normalizer anew
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        write_json(folder / "tokenizer_config.json", {**settings, "tokenizer_class": "PreTrainedTokenizerFast"})
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = {"text": forward, "message": {**forward, "format": "flat"}}
    modules = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    files = {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{name}"}
            for index, (path, name) in enumerate(zip(("", "1_Pooling"), modules, strict=True))
        ],
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": modalities,
            "module_output_name": "token_embeddings",
        },
        "1_Pooling/config.json": {
            "embedding_dimension": inner.config.get_text_config(decoder=True).hidden_size,
            "pooling_mode": mode,
        },
    }
    for name, content in files.items():
        write_json(folder / name, content)


def _chat_templates(tokenizer: PreTrainedTokenizerBase, readout: Readout) -> Iterator[str]:
    """Jinja that writes the whole prompt of the last message; the first that gives the right tokens wins."""
    if (preprocessing := _PREPROCESSING.get(_function(readout.preprocess))) is None:
        raise UserError(f"{_name(readout.preprocess)} of readout.preprocess cannot be written as a chat template")
    start = "{%- set sentence = messages[-1]['content'] %}\n" + preprocessing + _shielding(tokenizer)
    if readout.template.chat:
        yield start + _chat_prompt(readout.template) + str(tokenizer.get_chat_template())
        return
    before, after = _special_tokens(tokenizer)
    start += f"{{%- set text = {_around_sentence(readout.template, readout.template.separator)} %}}\n"
    yield start + f"{{{{- {_sum(_literal(before), 'text', _literal(after))} }}}}"
    # SentencePiece opens a text with a space, but not one that follows a special token.
    space = "('' if not text or text.startswith(' ') else ' ')"
    yield start + f"{{{{- {_sum(_literal(before), space, 'text', _literal(after))} }}}}"


def _shielding(tokenizer: PreTrainedTokenizerBase) -> str:
    """Jinja that replaces special tokens in the sentence as `UserText.shield` does."""
    replacements = UserText(tokenizer).replacements if tokenizer.is_fast else {}
    if not replacements:
        return ""
    pairs = json.dumps([*replacements.items()], ensure_ascii=False)
    return (
        f"{{%- set text = namespace(own=sentence) %}}{{% for token, shielded in {pairs} %}}"
        "{% set text.own = text.own.replace(token, shielded) %}{% endfor %}{% set sentence = text.own %}\n"
    )


def _chat_prompt(template: PromptTemplate) -> str:
    """Jinja that puts the prompt's turns in place of the conversation, before the model's own template."""
    user = f"{{'role': 'user', 'content': {_around_sentence(template)}}}"
    system = "" if template.system is None else f"{{'role': 'system', 'content': {_literal(template.system)}}}, "
    values = {"add_generation_prompt": True, **(template.template_arguments or {})}
    variables = "".join(f"{{% set {name} = {_jinja(value)} %}}" for name, value in values.items())
    return f"{{%- set messages = [{system}{user}] %}}{variables}"


def _jinja(value: Any) -> str:  # noqa: ANN401 (what a template takes)
    """A value as Jinja writes it."""
    if isinstance(value, str):
        return _literal(value)
    return "none" if value is None else json.dumps(value)


def _around_sentence(template: PromptTemplate, separator: str = "") -> str:
    """Jinja for the template's text with the sentence in its slot."""
    head, tail = template.text.split(SLOT)
    copies = [string for part in head.split(COPY) for string in (_literal(part), "sentence")]
    return _sum(*copies, _literal(tail + separator))


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What the tokenizer puts before and behind a text."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    start = whole.index(plain[0])
    before, after = whole[:start], whole[start + len(plain) :]
    return "".join(tokenizer.convert_ids_to_tokens(before)), "".join(tokenizer.convert_ids_to_tokens(after))


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, readout: Readout, sentence: str) -> list[int]:
    user_text = UserText(tokenizer)
    text = readout.template.prompt(tokenizer, user_text.shield(readout.preprocess(sentence)))
    ids: list[int] = user_text.encode([text], add_special_tokens=not readout.template.chat)["input_ids"][0]
    return ids


def _literal(text: str) -> str:
    """A string of Jinja, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _sum(*strings: str) -> str:
    return " + ".join(string for string in strings if string != _literal(""))


def _function(function: Callable[..., Any]) -> object:
    """What a config node with `_partial_: true` names."""
    return function.func if isinstance(function, partial) else function


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(_function(function), "__name__", function))
