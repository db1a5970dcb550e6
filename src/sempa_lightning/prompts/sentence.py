"""What is done to a sentence before it is put into an embedding prompt."""


def end_with_full_stop(sentence: str) -> str:
    """Close the sentence as PromptEOL's and SemPA's evaluation code do.

    A full stop is added unless the last character is one of `.?"'`; double quotes become single ones, because
    the template quotes the sentence; a final question mark becomes a full stop.

    Example:
        >>> end_with_full_stop('Who said "go"?')
        "Who said 'go'."
    """
    if sentence and sentence[-1] not in ".?\"'":
        sentence += "."
    sentence = sentence.replace('"', "'")
    return sentence[:-1] + "." if sentence.endswith("?") else sentence


def as_it_is(sentence: str) -> str:
    """Leave the sentence alone."""
    return sentence
