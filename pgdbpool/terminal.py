"""What others have said, for a terminal."""


def printable(text: str) -> str:
    """Return it without what a terminal obeys: escapes, ends of lines, directions."""
    return "".join(one if one.isprintable() else "?" for one in text)
