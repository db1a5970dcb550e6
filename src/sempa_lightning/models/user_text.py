"""Users' texts as token ids: a special token that a text spells out stays text."""

import copy
import re
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, normalizers
from transformers import BatchEncoding, PreTrainedTokenizerBase

from sempa_lightning.errors import UserError

# Private-use characters at the end of Unicode's last plane, which stand for the first characters of special tokens.
_FIRST_STAND_IN = 0x10F000


class UserText:
    """Encodes prompts in which the template's special tokens count and those spelt out by users do not.

    A tokenizer finds special tokens in any text: `</s>` in a user's sentence would end it. So `shield` replaces the
    first character of each special token in a user's text by a stand-in before the text enters a template, and
    `encode` reads stand-ins as the characters they stand for, after special tokens have been found. Texts without
    special tokens are encoded by the tokenizer as it is.

    Args:
        tokenizer: The model's tokenizer.

    Attributes:
        replacements: What takes the place of each special token in a user's text, longest token first.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._special = [token for token in tokenizer.added_tokens_decoder.values() if token.special and str(token)]
        contents = sorted(map(str, self._special), key=len, reverse=True)
        firsts = sorted({content[0] for content in contents})
        self._stand_ins = {first: chr(_FIRST_STAND_IN + index) for index, first in enumerate(firsts)}
        self._any = re.compile("|".join(map(re.escape, contents)) or r"(?!)")
        self.replacements = {content: self._stand_ins[content[0]] + content[1:] for content in contents}

    def shield(self, text: str) -> str:
        """Replace the first character of each special token in a user's text; the length stays the same."""
        if self._any.search(text):
            for content, shielded in self.replacements.items():
                text = text.replace(content, shielded)
        return text

    def encode(self, texts: list[str], **options: Any) -> BatchEncoding:  # noqa: ANN401 (the tokenizer's)
        """Encode rendered prompts whose user texts were shielded.

        Args:
            texts: Rendered prompts.
            options: Arguments of the tokenizer.

        Raises:
            UserError: If a text is shielded and the tokenizer is a slow one, which offers no way to keep it text.
        """
        shielded = any(stand_in in text for text in texts for stand_in in self._stand_ins.values())
        return (self.reader if shielded else self._tokenizer)(texts, verbose=False, **options)

    @cached_property
    def reader(self) -> PreTrainedTokenizerBase:
        """A copy of the tokenizer with a first step that puts characters in the place of their stand-ins.

        Raises:
            UserError: If the tokenizer is a slow one.
        """
        if not self._tokenizer.is_fast:
            raise UserError(
                f"a text spells out a special token of the tokenizer, which {type(self._tokenizer).__name__} cannot"
                " encode as text: remove it from the text or choose a model with tokenizer.json"
            )
        tokenizer = copy.deepcopy(self._tokenizer)
        backend = tokenizer.backend_tokenizer
        # Tokens marked as normalized are looked for after the normalizer, where stand-ins are characters again.
        backend.add_special_tokens(
            [
                AddedToken(str(token), lstrip=token.lstrip, rstrip=token.rstrip, normalized=False, special=True)
                for token in self._special
                if token.normalized
            ]
        )
        steps = [normalizers.Replace(stand_in, first) for first, stand_in in self._stand_ins.items()]
        backend.normalizer = normalizers.Sequence([*steps, *filter(None, [backend.normalizer])])
        return tokenizer
