"""What is a secret and what is not."""

import pytest

from sempa_lightning.errors import UserError
from sempa_lightning.masking import for_file, masked, masked_text, refuse_masks, secret_overrides

SECRET = "s3cret-Value.1"
KEYS = [
    *("token", "hf_token", "model.token", "+logger.x.access_token", "api_key", "apikey", "WANDB_API_KEY", "apiKey"),
    *("password", "db-password", "client_secret", "aws_secret_access_key", "private_key", "credentials"),
]
ORDINARY = [
    *("max_new_tokens", "tokenizer", "data.micro_batch_tokens", "data.key", "sequence_tokens", "monitor", "tokens"),
    *("pad_token", "eos_token", "model.bos_token", "keys", "keyword", "last_token", "secretary"),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_names_a_secret(key):
    assert masked({key: SECRET, "list": [{key: [SECRET]}]}) == {key: "<masked>", "list": [{key: ["<masked>"]}]}
    assert masked({key: 3, "other": None}) == {key: 3, "other": None}
    for word in (f"{key}={SECRET}", f"{key}='{SECRET}'", f"++{key}={SECRET}"):
        assert SECRET not in masked_text(f"python -m x a=1 {word} b=2")
        assert masked_text(f"python -m x a=1 {word} b=2").endswith("=<masked> b=2")
        assert secret_overrides(["a=1", word]) == [word]


@pytest.mark.parametrize("key", ORDINARY)
def test_an_ordinary_key(key):
    assert masked({key: SECRET}) == {key: SECRET}
    assert masked_text(f"{key}={SECRET}") == f"{key}={SECRET}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://user:{SECRET}@host:1/x", "https://<masked>@host:1/x"),
        (f"https://{SECRET}@host/x", "https://<masked>@host/x"),
        (f"postgres://u:{SECRET}@host, then", "postgres://<masked>@host, then"),
        (f"https://host/x?a=1&token={SECRET}&b=2", "https://host/x?a=1&token=<masked>&b=2"),
        (f"s3://b/k?X-Amz-Signature={SECRET}", "s3://b/k?X-Amz-Signature=<masked>"),
        ("hf_" + "aB3" * 8, "<masked>"),
        ("key sk-" + "a1" * 12 + " end", "key <masked> end"),
        (f"+model={{token: {SECRET}, path: x}}", "+model={token: <masked>, path: x}"),
        (f"{{'password': '{SECRET}'}}", "{'password': <masked>}"),
    ],
)
def test_secrets_by_their_form(text, shown):
    assert masked_text(text) == shown
    assert masked({"path": text}) == {"path": shown}
    assert masked_text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "git@github.com:owner/name",
        "see https://host/a@b and me@host.org",
        "row 3: no end token: set data.max_length",
        "model.token: not found",
        "0f3b5422c8d94a0e8a94c5b1f9f0a1b2c3d4e5f6",
        'This sentence : "{sentence}" means in one word:"',
        "model.token=${oc.env:HF_TOKEN}",
    ],
)
def test_ordinary_text_stays(text):
    assert masked_text(text) == text


def test_a_secret_that_a_variable_holds_is_written_as_its_name():
    variables = {"HF_TOKEN": SECRET, "EDITOR": "word"}
    assert for_file({"token": SECRET}, variables=variables) == {"token": "${oc.env:HF_TOKEN}"}
    assert for_file({"token": "word"}, variables=variables) == {"token": "<masked>"}
    assert for_file({"path": SECRET}, variables=variables) == {"path": SECRET}


def test_a_mask_is_no_value():
    refuse_masks({"token": "x", "text": "[MASK] <mask>"}, "model")
    with pytest.raises(UserError, match=r"^model\.url: .*\+model\.url=<value>.*oc\.env"):
        refuse_masks({"url": "https://<masked>@host"}, "model")
