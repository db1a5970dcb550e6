"""Whether data are here."""


def why_missing(*sources: object) -> str | None:
    """Why the first of these sources that cannot be read here cannot be.

    None where all can be, or only trying will tell; texts at hand, which are no source but a list, always can.

    >>> why_missing(["A text."]) is None
    True
    """
    reasons = (getattr(source, "missing", None) for source in sources)
    return next((reason for reason in reasons if reason), None)
