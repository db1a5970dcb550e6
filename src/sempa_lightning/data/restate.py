"""Text that says things twice, so that a small model learns to look back."""

from sempa_lightning.data.text import split_sentences


def restate(document: str, *, every: int) -> str:
    """Say each sentence of every n-th paragraph twice in a row.

    Copying from the context is rare in prose, and a model of a few million parameters does not learn it from as many
    tokens. It is what a paraphrase prompt asks for.

    Args:
        document: Paragraphs parted by line ends.
        every: The last of so many paragraphs is restated.
    """
    paragraphs = document.split("\n")
    for at in range(every - 1, len(paragraphs), every):
        paragraphs[at] = " ".join(f"{sentence} {sentence}" for sentence in split_sentences(paragraphs[at]))
    return "\n".join(paragraphs)
