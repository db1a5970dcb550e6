"""Which part of its prompt each token belongs to."""

from sempa_lightning.models.prompt_tokens import PromptTokens

PARTS = ("bos", "prefix", "text", "suffix", "self")
_BOS, _PREFIX, _TEXT, _SUFFIX, _SELF = range(len(PARTS))


def parts_of(prompt: PromptTokens) -> list[int]:
    """Part of each token, as an index into `PARTS`.

    The first token is `bos` whatever it is: attention that has nowhere to go collects there, begin token or not. The
    last is `self`. Of the others, `text` are those that hold at least one character of the sentence (see
    `PromptTokenizer`), `prefix` those before it, earlier copies of the sentence included, `suffix` those behind it.

    Example:
        >>> tokens = PromptTokens([0, 11, 12, 13, 14, 15, 16], [False, False, True, True, False, False, False])
        >>> [PARTS[part] for part in parts_of(tokens)]
        ['bos', 'prefix', 'text', 'text', 'suffix', 'suffix', 'self']
    """
    start = prompt.text.index(True)
    parts = [_TEXT if text else _PREFIX if place < start else _SUFFIX for place, text in enumerate(prompt.text)]
    parts[0] = _BOS
    parts[-1] = _SELF
    return parts
