"""Whether a text is in another language than the one it was made from."""

import re
import unicodedata

# The commonest function words of each language, its own or shared with others.
FUNCTION_WORDS = {
    "English": "a an the and or but of to in on at by for from with is are was were be been has have had do not no this"
    " that these those it its he she they we you i his her their there which who as if than will can",
    "German": "der die das den dem des ein eine einen einem einer und oder aber von zu zum zur im in auf mit bei nach"
    " für ist sind war waren hat haben wird nicht kein sich er sie es wir ihr ich sein ihre auch als wie dass an am",
    "French": "le la les un une des du de et ou mais à au aux en dans sur avec pour par est sont était être a ont ne"
    " pas ce cette ces il elle ils nous vous je se sa son ses leur qui que plus comme",
    "Spanish": "el la los las un una unos de del y o pero a al en con por para sobre es son era fue ser ha han no se su"
    " sus lo le que como más este esta él ella ellos muy sin",
    "Italian": "il lo la i gli le un una uno di del della dei delle e o ma a al alla in nel nella con per su da dal è"
    " sono era ha hanno non si che come più questo questa suo sua lui lei molto",
    "Portuguese": "o a os as um uma de do da dos das e ou mas em no na nos nas com por para ao à é são era foi ser tem"
    " não se seu sua que como mais este esta ele ela eles muito",
    "Dutch": "de het een en of maar van voor in op aan met bij uit naar te om door is zijn was waren heeft hebben wordt"
    " niet geen dat die dit deze hij zij ze we ik je er ook als dan nog",
}
_WORDS_OF = {language: frozenset(words.split()) for language, words in FUNCTION_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_MARGIN = 2
# Their letters stand side by side in one language.
_SHARED = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}


def changes_language(source: str, text: str) -> bool:
    """Whether a text is in another language than its source, by signs that need no model.

    It is, if it has a letter of a script that the source has none of, such as a Chinese one where the source is in
    Latin letters; or if it has at least two function words more of some language than of the source's.

    That is all: languages of one script are told apart only if they are among the seven of `FUNCTION_WORDS`, short
    texts hardly, and Chinese and Japanese not at all. What is doubtful passes.
    """
    if scripts(text) - scripts(source):
        return True
    in_source, in_text = function_words(source), function_words(text)
    likeliest = [language for language, count in in_source.items() if count == max(in_source.values())]
    return max(in_text.values()) >= max(in_text[language] for language in likeliest) + _MARGIN


def scripts(text: str) -> set[str]:
    """The scripts of a text's letters, by the names that Unicode gives to letters; forms of one letter are one.

    Example:
        >>> sorted(scripts("Zoë 5 µm, 水"))
        ['CJK', 'GREEK', 'LATIN']
    """
    letters = {letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) in _LETTERS}
    names = {re.split("[ -]", unicodedata.name(letter, ""))[0] for letter in letters}
    return {_SHARED.get(name, name) for name in names}


# Without modifier letters, which belong to several scripts.
_LETTERS = {"Lu", "Ll", "Lt", "Lo"}


def function_words(text: str) -> dict[str, int]:
    """How many words of a text are function words of each language."""
    words = _WORD.findall(text.casefold())
    return {language: sum(word in known for word in words) for language, known in _WORDS_OF.items()}
