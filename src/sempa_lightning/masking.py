"""Secrets in values and text: found by their keys and by their form, and masked where text leaves the process."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sempa_lightning.errors import UserError

MASK = "<masked>"

_NAME = (
    r"(?:[\w.+~/-]*[._+~-])?(?:(?:api|access|auth|hf|hub)?token|password|passwd|passphrase|secret|credentials?"
    r"|authorization|(?:api|access|secret|private|auth)[_-]?key)"
)
_SECRET_KEY = re.compile(_NAME, re.IGNORECASE)
# Tokens of a tokenizer, which are no secrets.
_SPECIAL_TOKEN = re.compile(r"(?:.*[._+~-])?(?:bos|eos|pad|unk|sep|cls|mask|begin|end|start|stop|first|last)_token")
_VALUE = r"""(?P<value>(?!\$\{)(?:'[^']*'|"[^"]*"|[^\s&,;'"})\]]+))"""
# `key=value` of command lines and addresses, `key: value` where a mapping stands in text.
_ASSIGNED = re.compile(rf"(?P<key>{_NAME})(?P<sign>=){_VALUE}", re.IGNORECASE)
_MAPPED = re.compile(rf"(?P<key>[{{,]\s*{_NAME}|'{_NAME}'|\"{_NAME}\")(?P<sign>:\s*){_VALUE}", re.IGNORECASE)
_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#'\"@]*(?::[^\s/?#'\"]*)?@", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&][\w.-]*(?:token|key|secret|password|signature|sig|credential|auth)s?=)[^\s&'\"]+", re.I)
_FORMS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[oprsu]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|wandb_v1_\w{16,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)


def masked(value: Any, key: str = "") -> Any:  # noqa: ANN401 (any nesting of plain values)
    """Mask the secrets in a nested value: texts under a key that names one, and parts of other texts.

    >>> masked({"model": {"token": "abc", "max_new_tokens": 4}, "path": "https://me:pw@host/x?sig=1"})
    {'model': {'token': '<masked>', 'max_new_tokens': 4}, 'path': 'https://<masked>@host/x?sig=<masked>'}
    """
    if isinstance(value, Mapping):
        return {name: masked(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    return MASK if value and _names_secret(key) else masked_text(value)


def masked_text(text: str) -> str:
    """Mask the secrets in text, such as a command line or an error.

    >>> masked_text("train model.token=abc data.key=id api_key='x y'")
    'train model.token=<masked> data.key=id api_key=<masked>'
    """
    text = _ADDRESS.sub(rf"\1{MASK}@", text)
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    for pattern in (_ASSIGNED, _MAPPED):
        text = pattern.sub(_without_value, text)
    return _FORMS.sub(MASK, text)


def for_file(value: Any, key: str = "", variables: Mapping[str, str] = os.environ) -> Any:  # noqa: ANN401 (as above)
    """Mask the secrets of a config that is written; one that an environment variable holds becomes its name.

    >>> for_file({"token": "abcdefgh", "password": "x"}, variables={"HF_TOKEN": "abcdefgh"})
    {'token': '${oc.env:HF_TOKEN}', 'password': '<masked>'}
    """
    if isinstance(value, Mapping):
        return {name: for_file(inner, str(name), variables) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [for_file(inner, key, variables) for inner in value]
    hidden = masked(value, key)
    if hidden == MASK and isinstance(value, str):
        held = (name for name, content in variables.items() if content == value and _names_secret(name))
        name = next(held, None)
        return hidden if name is None else f"${{oc.env:{name}}}"
    return hidden


def refuse_masks(value: Any, key: str = "") -> None:  # noqa: ANN401 (as above)
    """Refuse a value that a mask has replaced.

    Raises:
        UserError: If there is one.
    """
    for found in _masks(value, key):
        raise UserError(
            f"{found}: the saved config holds {MASK} instead of a secret. Give it again (+{found}=<value>), or write"
            " ${oc.env:<variable>} into config.yaml and set trust=[<variable>]"
        )


def secret_overrides(overrides: Sequence[str]) -> list[str]:
    """The words of a command line that hold a secret."""
    return [word for word in overrides if masked_text(word) != word]


def _masks(value: Any, key: str) -> Iterator[str]:  # noqa: ANN401 (as above)
    """Keys whose text holds a mask."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _masks(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _masks(inner, key)
    elif isinstance(value, str) and MASK in value:
        yield key


def _names_secret(key: str) -> bool:
    return bool(_SECRET_KEY.fullmatch(key)) and not _SPECIAL_TOKEN.fullmatch(key)


def _without_value(found: re.Match[str]) -> str:
    key = found["key"].strip("'\"{, \t\n")
    return f"{found['key']}{found['sign']}{MASK}" if _names_secret(key) else found[0]
